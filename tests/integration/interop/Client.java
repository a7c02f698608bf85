// Visits the server with Java's own TLS; what it is given and what it prints stands in visitor.rs.

import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.Socket;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import java.util.List;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

public class Client {
    private static final char[] PASSWORD = "changeit".toCharArray();
    private static final int BYTES = 100_000;

    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        for (String name : Arrays.asList(arguments).subList(1, arguments.length)) {
            String[] parts = name.split("/");
            SSLContext context = context(parts[1]);
            if (visit(context, parts, port, name)) {
                visit(context, parts, port, name);
            }
        }
    }

    private static SSLContext context(String credential) throws Exception {
        KeyStore keys = KeyStore.getInstance("PKCS12");
        try (InputStream file = new FileInputStream(credential + ".p12")) {
            keys.load(file, PASSWORD);
        }
        KeyManagerFactory keyManagers = KeyManagerFactory.getInstance("PKIX");
        keyManagers.init(keys, PASSWORD);
        KeyStore trust = KeyStore.getInstance("PKCS12");
        trust.load(null, null);
        try (InputStream file = new FileInputStream("server-ca.pem")) {
            int number = 0;
            for (Certificate authority : CertificateFactory.getInstance("X.509").generateCertificates(file)) {
                trust.setCertificateEntry("authority-" + number++, authority);
            }
        }
        TrustManagerFactory trustManagers = TrustManagerFactory.getInstance("PKIX");
        trustManagers.init(trust);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keyManagers.getKeyManagers(), trustManagers.getTrustManagers(), null);
        return context;
    }

    private static boolean visit(SSLContext context, String[] parts, int port, String name) throws Exception {
        byte[] sent = new byte[BYTES];
        for (int i = 0; i < BYTES; i++) {
            sent[i] = (byte) (i * 31 % 251);
        }
        Socket tcp = new Socket("127.0.0.1", port);
        tcp.setSoTimeout(20_000);
        int local = tcp.getLocalPort();
        try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(tcp, parts[0], port, true)) {
            SSLParameters parameters = socket.getSSLParameters();
            parameters.setProtocols(new String[] {"TLSv" + parts[2]});
            parameters.setServerNames(List.of(new SNIHostName(parts[0])));
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            socket.setSSLParameters(parameters);
            socket.startHandshake();
            SSLSession session = socket.getSession();
            // A resumed session carries on what was put into the one it comes from.
            boolean resumed = session.getValue("seen") != null;
            session.putValue("seen", Boolean.TRUE);
            Thread writer = new Thread(() -> write(socket, sent));
            writer.start();
            byte[] back = socket.getInputStream().readAllBytes();
            writer.join();
            if (!Arrays.equals(sent, back)) {
                throw new IOException("the echo differs");
            }
            System.out.printf("visit %s port=%d resumed=%b version=%s bytes=%d group=-%n", name, local, resumed,
                session.getProtocol().substring(4), back.length);
            return true;
        } catch (IOException refusal) {
            System.out.printf("refused %s port=%d %s%n", name, local, refusal);
            return false;
        }
    }

    private static void write(SSLSocket socket, byte[] bytes) {
        try {
            socket.getOutputStream().write(bytes);
            // close_notify; the other direction stays open.
            socket.shutdownOutput();
        } catch (IOException error) {
            System.err.println(error);
        }
    }
}

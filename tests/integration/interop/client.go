// Visits the server with Go's crypto/tls; what it is given and what it prints stands in visitor.rs.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

var versions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func payload() []byte {
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(i * 31 % 251)
	}
	return data
}

// One connection; nil where it went as it should.
func visit(config *tls.Config, port string, name string, tcp net.Conn) error {
	tcp.SetDeadline(time.Now().Add(20 * time.Second))
	conn := tls.Client(tcp, config)
	if err := conn.Handshake(); err != nil {
		return err
	}
	sent := payload()
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		if err == nil {
			// close_notify; the other direction stays open.
			err = conn.CloseWrite()
		}
		failed <- err
	}()
	// To the server's close_notify: the end of TCP alone would be an error.
	back, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if err := <-failed; err != nil {
		return err
	}
	if !bytes.Equal(back, sent) {
		return fmt.Errorf("the echo differs")
	}
	state := conn.ConnectionState()
	version := strings.TrimPrefix(tls.VersionName(state.Version), "TLS ")
	fmt.Printf("visit %s port=%d resumed=%t version=%s bytes=%d group=%s\n", name, localPort(tcp), state.DidResume,
		version, len(back), group(state.CurveID))
	return conn.Close()
}

func group(id tls.CurveID) string {
	names := map[tls.CurveID]string{tls.CurveP256: "secp256r1", tls.CurveP384: "secp384r1", tls.X25519: "X25519"}
	if name, known := names[id]; known {
		return name
	}
	return id.String()
}

func localPort(conn net.Conn) int {
	return conn.LocalAddr().(*net.TCPAddr).Port
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func main() {
	roots := x509.NewCertPool()
	authorities, err := os.ReadFile("server-ca.pem")
	check(err)
	roots.AppendCertsFromPEM(authorities)
	port := os.Args[1]
	for _, name := range os.Args[2:] {
		parts := strings.Split(name, "/")
		certificate, err := tls.LoadX509KeyPair(parts[1]+".pem", parts[1]+".key")
		check(err)
		config := &tls.Config{
			ServerName: parts[0], RootCAs: roots, Certificates: []tls.Certificate{certificate},
			MinVersion: versions[parts[2]], MaxVersion: versions[parts[2]],
			ClientSessionCache: tls.NewLRUClientSessionCache(8),
		}
		for range 2 {
			tcp, err := net.Dial("tcp", "127.0.0.1:"+port)
			check(err)
			if err := visit(config, port, name, tcp); err != nil {
				fmt.Printf("refused %s port=%d %v\n", name, localPort(tcp), err)
				tcp.Close()
				break
			}
		}
	}
}

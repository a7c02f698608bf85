"""Visits the server with Python's own ssl module; what it is given and what it prints stands in visitor.rs."""

import socket
import ssl
import sys

PAYLOAD = bytes(i * 31 % 251 for i in range(100_000))
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def visit(context, host, port, name, session):
    tcp = socket.create_connection(("127.0.0.1", port), timeout=20)
    local = tcp.getsockname()[1]
    try:
        tls = context.wrap_socket(tcp, server_hostname=host, session=session)
        tls.sendall(PAYLOAD)
        back = bytearray()
        while len(back) < len(PAYLOAD):
            part = tls.recv(65536)
            if not part:
                raise EOFError("the echo ended early")
            back += part
        if back != PAYLOAD:
            raise ValueError("the echo differs")
        version = {"TLSv1.2": "1.2", "TLSv1.3": "1.3"}[tls.version()]
        kept, resumed = tls.session, tls.session_reused
        # Sends close_notify and waits for the other one.
        tls.unwrap().close()
    except (OSError, EOFError, ValueError) as error:
        print(f"refused {name} port={local} {error!r}")
        return None
    print(f"visit {name} port={local} resumed={str(resumed).lower()} version={version} bytes={len(back)} group=-")
    return kept


def main():
    port = int(sys.argv[1])
    for name in sys.argv[2:]:
        host, credential, version = name.split("/")
        context = ssl.create_default_context(cafile="server-ca.pem")
        context.minimum_version = context.maximum_version = VERSIONS[version]
        context.load_cert_chain(credential + ".pem", credential + ".key")
        session = visit(context, host, port, name, None)
        if session is not None:
            visit(context, host, port, name, session)


main()

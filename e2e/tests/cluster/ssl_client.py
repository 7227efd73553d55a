"""Python's own TLS: sends what it reads, an MQTT CONNECT, and prints what comes back as hexadecimal digits.

    ssl_client.py HOST PORT FOLDER
"""

import socket
import ssl
import sys

host, port, folder = sys.argv[1:]
context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
with socket.create_connection((host, int(port)), timeout=10) as plain:
    with context.wrap_socket(plain, server_hostname=host) as tls:
        tls.sendall(sys.stdin.buffer.read())
        print(tls.version(), tls.recv(4).hex())

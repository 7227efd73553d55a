"""Handshakes over loopback, both ends Python's, each as strict as it can be and with a revocation list.

    handshakes.py FOLDER HOST CLIENT...

Prints, for each client, what it hears: the TLS version and its name, said by the server, or why it was refused.
"""

import socket
import ssl
import sys
import threading

folder, host, *clients = sys.argv[1:]


def context(protocol, name):
    context = ssl.SSLContext(protocol)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_LEAF
    context.load_verify_locations(f"{folder}/ca.crt")
    context.load_verify_locations(f"{folder}/ca.crl")
    context.load_cert_chain(f"{folder}/{name}.crt", f"{folder}/tls.key")
    return context


def serve_one(listener):
    connection, _ = listener.accept()
    connection.settimeout(10)
    try:
        with context(ssl.PROTOCOL_TLS_SERVER, "broker").wrap_socket(connection, server_side=True) as tls:
            subject = dict(pair for part in tls.getpeercert()["subject"] for pair in part)
            tls.sendall(subject["commonName"].encode())
    except ssl.SSLError:
        pass  # an alert has told the client


def connect(address, name):
    try:
        with socket.create_connection(address, timeout=10) as connection:
            with context(ssl.PROTOCOL_TLS_CLIENT, name).wrap_socket(connection, server_hostname=host) as tls:
                return f"{tls.version()} {tls.recv(64).decode()}"
    except ssl.SSLError as error:
        return error.reason


for client in clients:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve_one, args=[listener], daemon=True)
        server.start()
        print(connect(listener.getsockname(), client))
        server.join()

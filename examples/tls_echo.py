"""Sends back whatever a client sends, over TLS, after a line on what the two agreed on.

Make a certificate that is good for a test, and serve with it:

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -keyout key.pem -out cert.pem
    neverblock serve examples/tls_echo.py:handle --bind tcp://127.0.0.1:7443 \
        --certfile cert.pem --keyfile key.pem --alpn echo

Talk to it; what is typed comes back:

    openssl s_client -connect localhost:7443 -quiet -alpn echo \
        -CAfile cert.pem -verify_return_error -verify_hostname localhost

It runs under every server model (--model), and without TLS too: then it says so. With --client-ca
it knows its clients by name.
"""

from neverblock.servers import Stream, TlsInfo


async def handle(stream: Stream) -> None:
    await stream.send(greeting(stream.info.tls).encode())
    async for chunk in stream:
        await stream.send(chunk)


def greeting(tls: TlsInfo | None) -> str:
    if tls is None:
        return "hello, in the clear\n"
    protocol = tls.alpn or "no protocol by name"
    return f"hello {client_of(tls)}: {tls.version}, {tls.cipher}, {protocol}\n"


def client_of(tls: TlsInfo) -> str:
    """Who the client's certificate says it is."""
    if tls.certificate is None:
        return "whoever you are"
    # As ssl.SSLSocket.getpeercert() gives it: a tuple of names, each a tuple of (kind, value).
    subject = dict(pair for name in tls.certificate["subject"] for pair in name)
    return str(subject.get("commonName", "nameless one"))

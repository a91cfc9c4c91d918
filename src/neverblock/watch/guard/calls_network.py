"""Blocking calls: sockets, names, TLS, and waiting for descriptors."""

from typing import Final

from neverblock.watch.guard import waits
from neverblock.watch.guard.call import Call, each, rows

CONNECT: Final = "await asyncio.open_connection(…), or await loop.sock_connect(…)"
RECEIVE: Final = "await reader.read(…) of a stream, or await loop.sock_recv(…)"
SEND: Final = "writer.write(…) of a stream, or await loop.sock_sendall(…)"
NAMES: Final = "await loop.getaddrinfo(…)"
READY: Final = "loop.add_reader(…) and loop.add_writer(…)"
IN_THREAD: Final = "await asyncio.to_thread(…)"
HTTP: Final = "an asynchronous HTTP client, or asyncio.to_thread"

CALLS: Final = rows(
    each(
        "socket.socket.connect socket.socket.connect_ex",
        "event",
        "socket.connect",
        CONNECT,
        waits.of_socket,
        "Socket.connect, DatagramSocket.connect, PlainDatagramSocketImpl.connect0",
    ),
    Call(
        "socket.socket.accept",
        "socket",
        "_socket:socket._accept",
        "asyncio.start_server(…), or await loop.sock_accept(…)",
        java="PlainSocketImpl.socketAccept",
    ),
    each(
        "socket.socket.recv socket.socket.recvfrom",
        "socket",
        "_socket:socket.{}",
        RECEIVE,
        waits.unless_told(1),
        "SocketInputStream.socketRead0, PlainDatagramSocketImpl.peekData",
    ),
    each(
        "socket.socket.recv_into socket.socket.recvfrom_into socket.socket.recvmsg "
        "socket.socket.recvmsg_into",
        "socket",
        "_socket:socket.{}",
        RECEIVE,
        waits.unless_told(2),
        "SocketInputStream.socketRead0, PlainDatagramSocketImpl.peekData",
    ),
    each(
        "socket.socket.send socket.socket.sendall",
        "socket",
        "_socket:socket.{}",
        SEND,
        waits.unless_told(1),
        "SocketOutputStream.socketWrite0",
    ),
    Call(
        "socket.socket.sendto",
        "socket",
        "_socket:socket.sendto",
        "await loop.sock_sendto(…)",
        waits.sending_to,
        "PlainDatagramSocketImpl.send",
    ),
    Call(
        "socket.socket.sendmsg",
        "socket",
        "_socket:socket.sendmsg",
        SEND,
        waits.unless_told(2),
        "SocketOutputStream.socketWrite0",
    ),
    each(
        "socket.socket.sendfile",
        "through",
        "os.sendfile",
        "await loop.sock_sendfile(…)",
        java="SocketOutputStream.socketWrite0",
    ),
    Call("socket.getaddrinfo", "event", "socket.getaddrinfo", NAMES, waits.resolving),
    each(
        "socket.gethostbyname socket.gethostbyname_ex",
        "event",
        "socket.gethostbyname",
        NAMES,
        waits.resolving,
    ),
    Call("socket.gethostbyaddr", "event", "socket.gethostbyaddr", "await loop.getnameinfo(…)"),
    each("socket.getfqdn", "through", "socket.gethostbyaddr", "await loop.getnameinfo(…)"),
    Call(
        "socket.getnameinfo",
        "entry",
        "_socket:getnameinfo",
        "await loop.getnameinfo(…)",
        waits.naming,
    ),
    each(
        "socket.create_connection",
        "through",
        "socket.socket.connect",
        CONNECT,
        java="Socket.connect",
    ),
    each(
        "http.client.HTTPConnection.request http.client.HTTPConnection.connect "
        "urllib.request.urlopen",
        "through",
        "socket.socket.connect",
        HTTP,
        java="Socket.connect",
    ),
    each(
        "smtplib.SMTP.connect ftplib.FTP.connect imaplib.IMAP4.open poplib.POP3",
        "through",
        "socket.socket.connect",
        IN_THREAD,
        java="Socket.connect",
    ),
    each(
        "socketserver.BaseServer.serve_forever",
        "through",
        "select.poll.poll",
        "asyncio.start_server(…)",
        java="PlainSocketImpl.socketAccept",
    ),
    # TLS.
    each(
        "ssl.SSLSocket.read ssl.SSLSocket.write ssl.SSLSocket.do_handshake",
        "entry",
        "_ssl:_SSLSocket.{}",
        "asyncio.open_connection(…, ssl=…)",
        waits.of_tls,
        "SocketInputStream.socketRead0, SocketOutputStream.socketWrite0",
    ),
    each(
        "ssl.SSLSocket.unwrap",
        "entry",
        "_ssl:_SSLSocket.shutdown",
        "asyncio.open_connection(…, ssl=…)",
        waits.of_tls,
        "SocketInputStream.socketRead0",
    ),
    each(
        "ssl.SSLSocket.recv ssl.SSLSocket.recv_into",
        "through",
        "ssl.SSLSocket.read",
        "asyncio.open_connection(…, ssl=…)",
        java="SocketInputStream.socketRead0",
    ),
    each(
        "ssl.SSLSocket.send ssl.SSLSocket.sendall",
        "through",
        "ssl.SSLSocket.write",
        "asyncio.open_connection(…, ssl=…)",
        java="SocketOutputStream.socketWrite0",
    ),
    each(
        "ssl.get_server_certificate",
        "through",
        "socket.socket.connect",
        IN_THREAD,
        java="Socket.connect",
    ),
    # Waiting for descriptors.
    Call("select.select", "wait", "select:select", READY, waits.timeout(3)),
    Call("select.poll.poll", "wait", "select:poll.poll", READY, waits.timeout(0)),
    Call("select.epoll.poll", "wait", "select:epoll.poll", READY, waits.timeout(0)),
    Call("select.kqueue.control", "wait", "select:kqueue.control", READY, waits.timeout(2)),
    each(
        "selectors.BaseSelector.select selectors.DefaultSelector.select",
        "through",
        "select.epoll.poll",
        READY,
    ),
)

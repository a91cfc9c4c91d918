"""Binding: from ``tcp://``, ``unix://`` and ``fd://`` URLs to sockets that listen."""

from neverblock.servers.listen.addresses import Address, address_text, peer_text
from neverblock.servers.listen.bind import Bind
from neverblock.servers.listen.check import check
from neverblock.servers.listen.listener import Listener
from neverblock.servers.listen.open import choose, listen, opened
from neverblock.servers.listen.tcp import set_accepted

__all__ = [
    "Address",
    "Bind",
    "Listener",
    "address_text",
    "check",
    "choose",
    "listen",
    "opened",
    "peer_text",
    "set_accepted",
]

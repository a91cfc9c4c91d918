"""Every difference between Python versions that the loop has to know."""

import sys

if sys.version_info >= (3, 13):

    def attach_to_server(server, transport):
        server._attach(transport)

    def detach_from_server(server, transport):
        server._detach(transport)

else:

    def attach_to_server(server, transport):
        server._attach()

    def detach_from_server(server, transport):
        server._detach()

"""Peers of zmq_transports: connects to its first two endpoints, binds the other two, and sends a
message through each."""
import sys

import zmq

context = zmq.Context.instance()
context.linger = 5000
for place, endpoint in enumerate(sys.argv[1:5]):
    socket = context.socket(zmq.PUSH)
    (socket.connect if place < 2 else socket.bind)(endpoint)
    socket.send_string(f"hello from python {place}")
context.destroy()

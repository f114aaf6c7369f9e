"""The counterpart of zmq_hwclient. Its work takes argv[2] seconds."""
import sys
import time

import zmq

socket = zmq.Context.instance().socket(zmq.REP)
# Like a service behind a queue, if the endpoint says so.
endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://*:5555"
if endpoint.startswith(">"):
    socket.connect(endpoint[1:])
else:
    socket.bind(endpoint)
while True:
    print("Received request:", socket.recv_string(), flush=True)
    time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 1)
    socket.send_string("World")

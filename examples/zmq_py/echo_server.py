"""The counterpart of zmq_echo_client: sends back what it receives, on gevent's loop."""
import sys

import zmq.green as zmq

socket = zmq.Context.instance().socket(zmq.REP)
socket.bind(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5000")
while True:
    text = socket.recv_string()
    print("Received", text, flush=True)
    socket.send_string(text)

"""The counterpart of zmq_echo_server: nine messages, each of which must come back."""
import sys

import zmq.green as zmq

socket = zmq.Context.instance().socket(zmq.REQ)
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5000")
for i in range(9):
    text = f"msg {i}"
    socket.send_string(text)
    print("Sending", text, flush=True)
    assert socket.recv_string() == text

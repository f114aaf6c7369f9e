"""The counterpart of zmq_hwserver, zmq_gt and zmq_msgqueue: asks argv[2] times."""
import sys

import zmq

socket = zmq.Context.instance().socket(zmq.REQ)
socket.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://localhost:5555")
for n in range(1, 1 + int(sys.argv[2] if len(sys.argv) > 2 else 10)):
    socket.send_string("Hello")
    print(f"Received reply {n} [ {socket.recv_string()} ]", flush=True)

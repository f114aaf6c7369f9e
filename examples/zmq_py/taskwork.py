"""The counterpart of zmq_taskvent and zmq_tasksink."""
import sys
import time

import zmq

context = zmq.Context.instance()
receiver, sender = context.socket(zmq.PULL), context.socket(zmq.PUSH)
receiver.connect(sys.argv[1] if len(sys.argv) > 1 else "tcp://localhost:5557")
sender.connect(sys.argv[2] if len(sys.argv) > 2 else "tcp://localhost:5558")
while True:
    ms = int(receiver.recv_string())
    print(".", end="", flush=True)
    time.sleep(ms / 1000)
    sender.send(b"")

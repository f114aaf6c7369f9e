"""The counterpart of zmq_taskvent and zmq_taskwork."""
import sys
import time

import zmq

receiver = zmq.Context.instance().socket(zmq.PULL)
receiver.bind(sys.argv[1] if len(sys.argv) > 1 else "tcp://*:5558")
receiver.recv()
begun = time.monotonic()
for n in range(100):
    assert receiver.recv() == b""
    print(".:"[n % 10 == 0], end="", flush=True)
print(f"\nTotal elapsed time: {round((time.monotonic() - begun) * 1000)} msec", flush=True)

"""The counterpart of zmq_taskwork and zmq_tasksink, as the first program of the talk: the start goes
to a worker."""
import random
import sys
import time

import zmq

sender = zmq.Context.instance().socket(zmq.PUSH)
sender.bind(sys.argv[1] if len(sys.argv) > 1 else "tcp://*:5557")
print("Press Enter when the workers are ready: ", end="", flush=True)
sys.stdin.readline()
sender.send_string("0")
work = [random.randint(1, 100) for _ in range(100)]
for ms in work:
    sender.send_string(str(ms))
print(f"Total expected cost: {sum(work)} msec", flush=True)
time.sleep(1)

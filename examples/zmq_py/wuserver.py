"""The counterpart of zmq_wuclient and zmq_wuproxy: the weather of a few places, without end."""
import random
import sys

import zmq

socket = zmq.Context.instance().socket(zmq.PUB)
socket.bind(sys.argv[1] if len(sys.argv) > 1 else "tcp://*:5556")
while True:
    # Fewer places than the original has, so that a slow machine need not wait long.
    place, temperature = random.randint(9990, 10010), random.randint(-79, 134)
    socket.send_string(f"{place} {temperature} {random.randint(11, 59)}")

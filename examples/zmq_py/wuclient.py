"""The counterpart of zmq_wuserver and zmq_wuproxy: checks argv[3] updates of a place."""
import sys

import zmq

place = sys.argv[1] if len(sys.argv) > 1 else "10001"
socket = zmq.Context.instance().socket(zmq.SUB)
socket.connect(sys.argv[2] if len(sys.argv) > 2 else "tcp://localhost:5556")
socket.subscribe(place)
for _ in range(int(sys.argv[3] if len(sys.argv) > 3 else 5)):
    where, temperature, humidity = map(int, socket.recv_string().split())
    assert str(where).startswith(place) and 1 <= where <= 99999, where
    assert -79 <= temperature <= 134 and 11 <= humidity <= 59, (temperature, humidity)
print("updates as expected", flush=True)

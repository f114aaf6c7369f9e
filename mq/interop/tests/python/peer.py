"""A ZeroMQ peer made of pyzmq: python peer.py LIBRARY KIND bind|connect ENDPOINT

LIBRARY is zmq, or green: then another greenlet counts while this one waits. Prints the endpoint that
was bound, then what it found, then "done". main.rs is the other side."""
import sys

library, kind, how, endpoint = sys.argv[1:]
if library == "green":
    import gevent
    import zmq.green as zmq
else:
    import zmq

ROUNDS = 40
SIZES = [0, 1, 255, 256, 8192, 100_000]


def message(i):
    """What both sides send as their message number i."""
    return [bytes([(i + j) & 255]) * SIZES[(7 * i + j) % len(SIZES)] for j in range(i % 4 + 1)]


def say(*words):
    print(*words, flush=True)


def expect(got, wanted, what):
    if got != wanted:
        sizes = [len(frame) for frame in got]
        sys.exit(f"{what}: got {sizes}, wanted {[len(frame) for frame in wanted]}")


def req(socket):
    for i in range(ROUNDS):
        socket.send_multipart(message(i))
        expect(socket.recv_multipart(), [b"re", *message(i)], f"reply {i}")


def rep(socket):
    for i in range(ROUNDS):
        request = socket.recv_multipart()
        expect(request, message(i), f"request {i}")
        socket.send_multipart([b"re", *request])


def push(socket):
    for i in range(ROUNDS):
        socket.send_multipart(message(i))


def pull(socket):
    for i in range(ROUNDS):
        expect(socket.recv_multipart(), message(i), f"message {i}")


def pub(socket):
    # Until the other side says that something has come.
    told = open(0, "rb", buffering=0)
    poller = zmq.Poller()
    poller.register(told, zmq.POLLIN)
    while not poller.poll(5):
        socket.send(b"probe")
    for i in range(ROUNDS):
        socket.send_multipart([b"other", *message(i)])
        socket.send_multipart([b"topic", *message(i)])


def sub(socket):
    socket.subscribe(b"probe")
    socket.subscribe(b"topic")
    while socket.recv_multipart() != [b"probe"]:
        pass
    say("subscribed")
    for i in range(ROUNDS):
        got = [b"probe"]
        while got == [b"probe"]:
            got = socket.recv_multipart()
        expect(got, [b"topic", *message(i)], f"publication {i}")


def dealer(socket):
    for i in range(ROUNDS):
        socket.send_multipart([b"tag", *message(i)])
    for i in range(ROUNDS):
        expect(socket.recv_multipart(), [b"tag", *message(i), b"re"], f"answer {i}")


def router(socket):
    for i in range(ROUNDS):
        sender, *got = socket.recv_multipart()
        expect([sender], [b"sward"], "routing id")
        expect(got, [b"tag", *message(i)], f"question {i}")
        socket.send_multipart([sender, *got, b"re"])


def run():
    context = zmq.Context()
    socket = context.socket(getattr(zmq, kind.upper()))
    if library == "zmq":
        socket.rcvtimeo = socket.sndtimeo = 30_000
    socket.linger = 30_000
    if kind == "dealer":
        socket.identity = b"python"
    if how == "bind":
        socket.bind(endpoint)
        say(socket.last_endpoint.rstrip(b"\0").decode())
    else:
        socket.connect(endpoint)
    globals()[kind](socket)
    say("done")
    socket.close()
    context.term()


if library == "green":
    ticks = 0

    def tick():
        global ticks
        while True:
            ticks += 1
            gevent.sleep(0.001)

    ticking = gevent.spawn(tick)
    work = gevent.spawn(run)
    work.join(timeout=50)
    ticking.kill()
    if not work.successful():
        sys.exit(1)
    # It waits for each reply; the others may find all there.
    if kind == "req" and ticks < 2:
        sys.exit("the other greenlet has not run")
else:
    run()

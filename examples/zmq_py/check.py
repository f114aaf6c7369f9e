"""Runs the ZeroMQ examples against each other and against their counterparts in this directory, and
compares what they print.

    python examples/zmq_py/check.py DIRECTORY-OF-EXAMPLES [NAME-OF-A-CHECK...]
"""
import concurrent.futures
import os
import pathlib
import pty
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import zmq

HERE = pathlib.Path(__file__).parent
BUILT = pathlib.Path(sys.argv[1])
SCRATCH = pathlib.Path(tempfile.mkdtemp(prefix="zmq-examples-"))
LIMIT = 120
used = set()
held = []


def tcp():
    """An endpoint that nobody uses."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{s.getsockname()[1]}"


def ipc(name):
    return f"ipc://{SCRATCH}/{name}"


class Program:
    """A started program, ours or of this directory; ends with the block."""

    def __init__(self, name, *args, stdin=None, threads=None):
        if name.endswith(".py"):
            command = [sys.executable, HERE / name]
        else:
            command = [BUILT / name]
            used.add(name)
        self.name = " ".join([name, *args])
        self.process = subprocess.Popen(
            [*command, *args],
            stdout=subprocess.PIPE,
            stdin=stdin or subprocess.DEVNULL,
            env=os.environ | ({"SWARD_WORKERS": threads} if threads else {}),
        )
        self.lines, self.coming = [], queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.coming.put(line.decode().rstrip("\n"))
        self.coming.put(None)

    def next(self):
        """The next line; None at the end."""
        try:
            line = self.coming.get(timeout=LIMIT)
        except queue.Empty:
            raise AssertionError(f"{self.name}: nothing after {self.lines}") from None
        if line is not None:
            self.lines.append(line)
        return line

    def says(self, *lines):
        for line in lines:
            said = self.next()
            assert said == line, f"{self.name} says {said!r}, not {line!r}"

    def until(self, pattern):
        """Waits for a line like that."""
        while (line := self.next()) is not None:
            if match := re.fullmatch(pattern, line):
                return match
        raise AssertionError(f"{self.name}: no {pattern!r} in {self.lines}")

    def ends(self, *lines):
        """It says these as its last lines, and ends well."""
        self.says(*lines, None)
        status = self.process.wait(LIMIT)
        assert status == 0, f"{self.name}: status {status}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def either(name):
    """Ours and python's, by turns: each of ours meets ours and theirs."""
    return f"zmq_{name}", f"{name}.py"


def meetings(a, b):
    return [(x, y) for x in either(a) for y in either(b) if "zmq_" in x + y]


def echo():
    for server, client in meetings("echo_server", "echo_client"):
        for endpoint in (tcp(), ipc("echo-" + server + client)):
            with Program(server, endpoint) as server_, Program(client, endpoint) as client_:
                client_.ends(*(f"Sending msg {i}" for i in range(9)))
                server_.says(*(f"Received msg {i}" for i in range(9)))


def transports():
    ends = [tcp(), ipc("this"), tcp(), ipc("another")]
    with Program("zmq_transports", *ends) as ours:
        ours.says(*ends, "inproc://another-socket")
        ours.says("inproc://another-socket: hello from another task")
        with Program("transports.py", *ends) as theirs:
            heard = sorted(ours.next() for _ in ends)
            assert heard == sorted(f"{e}: hello from python {i}" for i, e in enumerate(ends)), heard
            theirs.ends()


def gt():
    with Program("zmq_gt", tcp()) as both:
        for i in range(10):
            both.says("Received request: Hello", f"Received reply {i} [ World ]")
        both.ends()


def hello_world():
    for server, client in meetings("hwserver", "hwclient"):
        endpoint = tcp()
        with Program(server, endpoint) as server_, Program(client, endpoint) as client_:
            begun = time.monotonic()
            if client.startswith("zmq_"):
                client_.says("Connecting to hello world server...")
            for n in range(1, 11):
                if client.startswith("zmq_"):
                    client_.says(f"Sending request {n} ...")
                server_.says("Received request: Hello")
                client_.says(f"Received reply {n} [ World ]")
            client_.ends()
            assert time.monotonic() - begun > 9.5, "the server works a second for each"


AVERAGE = r"Average temperature for zipcode '{}' was (-?\d+)F"


def weather():
    for server, client in meetings("wuserver", "wuclient"):
        # The weather server of the talk knows 99,999 places: a prefix is found sooner.
        endpoint, place = tcp(), "1000" if server.startswith("zmq_") else "10001"
        with Program(server, endpoint), Program(client, place, endpoint) as client_:
            if client.startswith("zmq_"):
                temperature = int(client_.until(AVERAGE.format(place))[1])
                assert -79 <= temperature <= 134
            else:
                client_.says("updates as expected")
            client_.ends()


def weather_proxy():
    with Program("wuserver.py", inner := tcp()), Program("zmq_wuproxy", inner, outer := tcp()):
        with Program("zmq_wuclient", "10001", outer) as ours, Program("wuclient.py", "10002", outer) as theirs:
            ours.until(AVERAGE.format(10001))
            theirs.ends("updates as expected")


def batch(vent, work, sink, workers=2, vent_end=None, work_end=None):
    """A batch from ventilator to sink; returns what each worker said."""
    a, b = tcp(), tcp()
    source = vent_end or a
    with Program(sink, b) as sink_:
        all_work = [Program(work, work_end or a, b) for _ in range(workers)]
        try:
            with Program(vent, source, b, stdin=subprocess.PIPE) as vent_:
                time.sleep(1)  # as a person would, before "the workers are ready"
                vent_.process.stdin.write(b"\n")
                vent_.process.stdin.close()
                if vent.startswith("zmq_"):
                    vent_.says("Press Enter when the workers are ready: Sending tasks to workers...")
                cost = int(vent_.until(r".*Total expected cost: (\d+) msec")[1])
                assert 3500 < cost < 6500, cost
                vent_.ends()
            sink_.says((":" + 9 * ".") * 10)
            elapsed = int(sink_.until(r"Total elapsed time: (\d+) msec")[1])
            sink_.ends()
            assert cost / workers * 0.7 < elapsed < cost / workers * 1.6 + 1000, (cost, elapsed)
        finally:
            for program in all_work:
                program.process.kill()
        return [program.next() or "" for program in all_work]


def tasks():
    for vent, work, sink in (
        ("zmq_taskvent", "zmq_taskwork", "zmq_tasksink"),
        ("zmq_taskvent", "taskwork.py", "zmq_tasksink"),
        ("taskvent.py", "zmq_taskwork", "tasksink.py"),
    ):
        for workers in (1, 4) if work == vent.replace("vent", "work") else (2,):
            dots = batch(vent, work, sink, workers)
            # The start of the older ventilator goes to a worker.
            expected = 100 if vent.startswith("zmq_") else 101
            assert sum(map(len, dots)) == expected and set("".join(dots)) == {"."}, dots


def poller():
    for way in ("poller", "tasks", "select"):
        tasks_, weather_, sink = tcp(), tcp(), zmq.Context.instance().socket(zmq.PULL)
        port = sink.bind_to_random_port("tcp://127.0.0.1")
        with Program("wuserver.py", weather_), Program("zmq_mspoller", way, tasks_, weather_) as ours:
            ours.until("weather: 10001 .*")
            with Program("zmq_taskvent", tasks_, f"tcp://127.0.0.1:{port}", stdin=subprocess.PIPE) as vent:
                vent.process.stdin.write(b"\n")
                vent.process.stdin.close()
                vent.until("Total expected cost.*")
                assert vent.process.wait(LIMIT) == 0
            for _ in range(100):
                ours.until(r"task: \d+")
            ours.until("weather: 10001 .*")
        sink.close(0)


def message_queue():
    front, back = tcp(), tcp()
    with Program("zmq_msgqueue", front, back):
        services = [Program("hwserver.py", ">" + back, "0.01") for _ in range(3)]
        clients = [Program("zmq_hwclient", front), Program("hwclient.py", front, "20")]
        for client, count in zip(clients, (10, 20)):
            for n in range(1, count + 1):
                client.until(rf"Received reply {n} \[ World \]")
            client.ends()
        for service in services:
            service.process.kill()
            # In turn: 30 requests for three.
            while (line := service.next()) is not None:
                assert line == "Received request: Hello"
        assert [len(service.lines) for service in services] == [10] * 3 or sum(
            len(service.lines) for service in services
        ) == 30


def stopped(device, front, back, kinds):
    """Stops a device; returns what it has moved."""
    device.process.send_signal(signal.SIGINT)
    lines = [device.next() for _ in range(4)]
    device.ends()
    for line, kind, end in zip(lines, kinds, (front, back)):
        assert line == f"{device.name.split()[1]}: {kind} {end.lstrip('>')}", line
    moved = [re.fullmatch(r"(->|<-) (\d+) messages, (\d+) bytes", line) for line in lines[2:]]
    return [int(m[2]) for m in moved]


def devices():
    service, front = tcp(), tcp()
    with Program("zmq_device", "queue", front, ">" + service) as queue_:
        with Program("hwserver.py", service, "0"), Program("zmq_hwclient", front) as client:
            client.until(r"Received reply 10 .*")
        assert stopped(queue_, front, service, ("ROUTER", "DEALER")) == [10, 10]
    weather_, back = tcp(), tcp()
    with Program("zmq_device", "forwarder", ">" + weather_, back) as forwarder:
        with Program("wuserver.py", weather_), Program("wuclient.py", "10001", back) as theirs:
            with Program("zmq_wuclient", "10002", back) as ours:
                ours.until(AVERAGE.format(10002))
            theirs.ends("updates as expected")
        there, back_ = stopped(forwarder, weather_, back, ("XSUB", "XPUB"))
        assert there >= 10 and back_ >= 2, (there, back_)
    front, back = tcp(), tcp()
    with Program("zmq_device", "streamer", front, back) as streamer:
        source = zmq.Context.instance().socket(zmq.PUSH)
        source.connect(front)
        sinks = [zmq.Context.instance().socket(zmq.PULL) for _ in range(2)]
        for sink in sinks:
            sink.connect(back)
            sink.rcvtimeo = LIMIT * 1000
        for i in range(1000):
            source.send_multipart([b"part", str(i).encode()])
        poller_, got = zmq.Poller(), []
        for sink in sinks:
            poller_.register(sink, zmq.POLLIN)
        while len(got) < 1000:
            ready = poller_.poll(LIMIT * 1000)
            assert ready, f"{len(got)} of 1000"
            got += [int(sink.recv_multipart()[1]) for sink, _ in ready]
        assert sorted(got) == list(range(1000))
        assert stopped(streamer, front, back, ("PULL", "PUSH")) == [1000, 0]
        source.close(0), [sink.close(0) for sink in sinks]
    for args in ((), ("queue", "tcp://*:1"), ("pump", "tcp://*:1", "tcp://*:2")):
        wrong = subprocess.run([BUILT / "zmq_device", *args], stderr=subprocess.PIPE, text=True)
        assert wrong.returncode == 2 and "usage: zmq_device" in wrong.stderr, wrong


def device_terminal():
    """On a terminal it writes over one line, each second."""
    ours, theirs = pty.openpty()
    args = [BUILT / "zmq_device", "streamer", tcp(), tcp()]
    with subprocess.Popen(args, stdin=theirs, stdout=theirs, start_new_session=True) as device:
        os.close(theirs)
        text = b""
        while text.count(b"/s)") < 4:
            text += os.read(ours, 1000)
        device.send_signal(signal.SIGINT)
        assert device.wait(LIMIT) == 0
        line = b"\r\x1b[K-> 0 (0/s)   <- 0 (0/s)"
        assert text.count(line) == 2 and text.count(b"\n") == 2, text


def patterns():
    expected = [
        *(f"REQ  {n} received: reply to request {n}" for n in range(3)),
        *(f"SUB  {n} received: sports, which all want" for n in range(3)),
        *(f"PULL {n} received: task {n}" for n in range(3)),
        "PAIR   received: ping",
        "PAIR   received: pong",
    ]
    with Program("zmq_patterns") as program:
        program.ends(*expected)
    with Program("zmq_patterns", "tcp://127.0.0.1:*") as program:
        # Over tcp, which worker comes first is open.
        lines = [program.next() for _ in expected]
        number = re.compile(r"^PULL \d|\d$")
        assert sorted(number.sub("", line) for line in lines) == sorted(number.sub("", line) for line in expected), lines
        program.ends()


def pairs():
    kinds = "PUB SUB XPUB XSUB PUSH PULL REQ REP DEALER ROUTER PAIR".split()
    legal = "PUB-SUB PUB-XSUB XPUB-SUB XPUB-XSUB REQ-REP REQ-ROUTER DEALER-REP DEALER-ROUTER \
        DEALER-DEALER ROUTER-ROUTER PUSH-PULL PAIR-PAIR".split()
    with Program("zmq_pairs") as program:
        rows = [program.next().split() for _ in range(12)]
        program.ends()
    assert rows[0] == kinds
    for row, a in zip(rows[1:], kinds):
        expected = ["yes" if {f"{a}-{b}", f"{b}-{a}"} & set(legal) else "-" for b in kinds]
        assert row == [a, *expected], row


def scale():
    result, done = "148933 primes below 2000000", r"worker \d+\.\d+: (\d+) tasks"

    def alone(threads, workers):
        with Program("zmq_scale", "inproc://tasks", "boss", *workers * ["worker"], threads=threads) as all_:
            counts = [int(re.fullmatch(done, all_.next())[1]) for _ in range(workers)]
            all_.ends(result)
            # What is still in somebody's hand at the end is done twice.
            assert 200 <= sum(counts) < 200 + workers and min(counts) > 0, counts

    alone("1", 1)
    alone("2", 2)
    endpoint = tcp()
    with Program("zmq_scale", endpoint, "boss") as boss:
        workers = [Program("zmq_scale", endpoint, "worker") for _ in range(2)]
        # One is gone, and one more comes.
        time.sleep(0.2)
        workers[0].process.kill()
        workers.append(Program("zmq_scale", endpoint, "worker"))
        for worker in workers[1:]:
            worker.until(done)
            worker.ends()
        boss.ends(result)


# Those that use all the processor there is come one by one, behind the others.
TOGETHER = (echo, transports, gt, hello_world, tasks, message_queue, devices, device_terminal, patterns, pairs)
ALONE = (weather, weather_proxy, poller, scale)


def run(check):
    begun = time.monotonic()
    check()
    print(f"{check.__name__:16} ok, {time.monotonic() - begun:.1f} s", flush=True)


def main():
    chosen = sys.argv[2:]
    wanted = [c for c in (*TOGETHER, *ALONE) if not chosen or c.__name__ in chosen]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(run, check) for check in TOGETHER if check in wanted]:
            done.result()
    for check in ALONE:
        if check in wanted:
            run(check)
    # Every example that .ci/examples leaves to this program.
    listed = (HERE.parent.parent / ".ci/examples").read_text()
    left = set(re.findall(r"^- (\w+)$", listed, re.M))
    if not chosen:
        assert left == used, f"not run: {left - used}, not listed: {used - left}"


main()

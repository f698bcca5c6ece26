#!/usr/bin/env python3
"""The workloads of bench.h on Python's own pools.

python3 tests/bench/python_pools.py threads|processes|multiprocessing WORKLOAD WORKERS N

threads is ThreadPoolExecutor, processes is ProcessPoolExecutor, multiprocessing is
multiprocessing.Pool; both kinds of process start by fork.
"""
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool

PAUSE = 200_000
BLOCK = bytes(96 * 1024)
now = time.perf_counter_ns


def check(ok, what):
    if not ok:
        print("wrong result:", what, file=sys.stderr)
        sys.exit(4)


def spin(ns):
    end = now() + ns
    while now() < end:
        pass


def identity(x):
    return x


def nothing():
    pass


def item(x):
    return x * x + 1.0


def items(chunk):
    return [item(x) for x in chunk]


def work(_):
    """Some 50 us outside the interpreter's lock."""
    return hashlib.sha256(BLOCK).digest()


def worker_pid(_=None):
    return os.getpid()


class Threads:
    def __init__(self, name, workers, n):
        self.name, self.workers, self.n = name, workers, n
        self.pool = ThreadPoolExecutor(workers)
        list(self.pool.map(identity, range(10 * workers)))

    def start(self):
        self.cpu_started, self.started = time.process_time_ns(), now()

    def emit(self, value, count=1, more=""):
        cpu = (time.process_time_ns() - self.cpu_started) / count
        print(f"python {self.name} {value:.2f} cpu={cpu:.1f}{more}")

    def stop(self):
        self.emit((now() - self.started) / self.n, self.n)

    def measure(self, fn):
        fn(self.n // 10)
        self.start()
        fn(self.n)
        self.stop()

    def fire(self, n):
        wait([self.pool.submit(nothing) for _ in range(n)])

    def take_in_order(self, n):
        futures = [self.pool.submit(identity, i) for i in range(n)]
        check(sum(f.result() for f in futures) == n * (n - 1) // 2, "sum of the results")

    def take_as_completed(self, n):
        futures = [self.pool.submit(identity, i) for i in range(n)]
        check(sum(f.result() for f in as_completed(futures)) == n * (n - 1) // 2, "sum")

    def produce(self, n):
        producers = int(self.name[3])
        threads = [threading.Thread(target=self.take_in_order, args=(n // producers,))
                   for _ in range(producers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def t1(self):
        self.measure(self.fire)

    def t1f(self):
        self.measure(self.take_in_order)

    def t2(self):
        pause = PAUSE if self.name == "T2c" else 0
        total = 0
        self.start()
        for i in range(self.n):
            spin(pause)
            begin = now()
            check(self.pool.submit(identity, i).result() == i, "T2")
            total += now() - begin
        self.emit(total / self.n, self.n)

    def t4(self):
        data = [float(i) for i in range(self.n)]
        size = self.n // (8 * self.workers) + 1
        self.start()
        if self.name == "T4c1":
            result = list(self.pool.map(item, data))
        else:  # Executor.map ignores chunksize for threads
            slices = [data[i:i + size] for i in range(0, self.n, size)]
            result = [x for part in self.pool.map(items, slices) for x in part]
        self.stop()
        check(result == [item(x) for x in data], "map")

    def t5(self):
        self.measure(self.take_as_completed)

    def t6(self):
        self.measure(self.produce)

    def t7(self):
        best = float("inf")
        for _ in range(20):
            begin = now()
            for i in range(20):
                work(i)
            best = min(best, (now() - begin) / 20)
        self.start()
        wait([self.pool.submit(work, i) for i in range(self.n)])
        ns = (now() - self.started) / self.n
        at_once = min(self.workers, os.cpu_count())
        self.emit(ns, self.n, f" eff={best / at_once / ns:.4f}")

    def t7s(self):
        self.start()
        with ThreadPoolExecutor(self.workers) as pool:
            wait([pool.submit(time.sleep, 0.1) for _ in range(self.n)])
            self.emit(now() - self.started - 100e6)

    def t8m(self):
        def resident():
            with open("/proc/self/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        gate = threading.Event()
        for _ in range(self.workers):
            self.pool.submit(gate.wait)
        futures = [None] * self.n
        self.start()
        before = resident()
        for i in range(self.n):
            futures[i] = self.pool.submit(identity, i)
        self.emit((resident() - before) / self.n, self.n)
        gate.set()

    def t8c(self):
        self.start()
        for _ in range(self.n):
            with ThreadPoolExecutor(self.workers) as pool:
                pool.submit(nothing).result()
        self.stop()

    def t8i(self):
        self.fire(self.n)
        time.sleep(0.1)
        self.start()
        time.sleep(0.2)
        self.emit(5 * (time.process_time_ns() - self.cpu_started))

    WORKLOADS = {
        "T1": t1, "T1f": t1f, "T2": t2, "T2c": t2, "T4": t4, "T4c1": t4, "T5": t5, "T6p2": t6,
        "T6p4": t6, "T7": t7, "T7s": t7s, "T8m": t8m, "T8c": t8c, "T8i": t8i,
    }


class ExecutorPool:
    peer = "py-ppe"

    def __init__(self, workers):
        self.pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))

    def submit(self, fn, arg):
        return self.pool.submit(fn, arg).result

    def map(self, fn, values, chunksize):
        return list(self.pool.map(fn, values, chunksize=chunksize))

    def close(self):
        self.pool.shutdown()


class MultiprocessingPool:
    """It replaces a dead worker, but loses its task and never tells: no P5."""
    peer = "py-mp"

    def __init__(self, workers):
        self.pool = multiprocessing.get_context("fork").Pool(workers)

    def submit(self, fn, arg):
        return self.pool.apply_async(fn, (arg,)).get

    def map(self, fn, values, chunksize):
        return self.pool.map(fn, values, chunksize)

    def close(self):
        self.pool.close()
        self.pool.join()


class Processes:
    def __init__(self, kind, name, workers, n):
        self.kind, self.name, self.workers, self.n = kind, name, workers, n
        self.pool = kind(1 if name == "P5" else workers)
        self.pool.map(identity, range(10 * workers), 1)

    def emit(self, ns):
        print(f"{self.kind.peer} {self.name} {ns / self.n:.2f}")

    def p1(self):
        message, total = b"0123456789abcdef", 0
        for _ in range(self.n):
            spin(PAUSE if self.name == "P1c" else 0)
            begin = now()
            check(self.pool.submit(identity, message)() == message, "P1")
            total += now() - begin
        self.emit(total)

    def p2(self):
        begin = now()
        results = [self.pool.submit(identity, i) for i in range(self.n)]
        check(sum(result() for result in results) == self.n * (self.n - 1) // 2, "P2")
        self.emit(now() - begin)

    def p2m(self):
        self.map_all(1)

    def p2c(self):
        self.map_all(1000)

    def map_all(self, chunksize):
        begin = now()
        results = self.pool.map(identity, range(self.n), chunksize)
        check(sum(results) == self.n * (self.n - 1) // 2, self.name)
        self.emit(now() - begin)

    def p3(self):
        block = bytes(1 << 20 if self.name == "P3m" else 64 << 20)
        check(self.pool.submit(identity, block)() == block, "P3")
        begin = now()
        for _ in range(self.n):
            check(len(self.pool.submit(identity, block)()) == len(block), "P3")
        self.emit(now() - begin)

    def p4(self):
        begin = now()
        for i in range(self.n):
            pool = self.kind(self.workers)
            check(pool.submit(identity, i)() == i, "P4")
            pool.close()
        self.emit(now() - begin)

    def p5(self):
        """ProcessPoolExecutor breaks, and the documented way on is a new one."""
        total = 0
        for i in range(self.n):
            victim = self.pool.submit(worker_pid, None)()
            time.sleep(0.02)
            begin = now()
            os.kill(victim, signal.SIGKILL)
            while True:
                try:
                    check(self.pool.submit(identity, i)() == i, "P5")
                    break
                except BrokenProcessPool:
                    self.pool = self.kind(1)
            total += now() - begin
        self.emit(total)

    WORKLOADS = {
        "P1": p1, "P1c": p1, "P2": p2, "P2m": p2m, "P2c": p2c, "P3m": p3, "P3g": p3, "P4": p4,
        "P5": p5,
    }


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    mode, name, workers, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if mode == "threads":
        if name not in Threads.WORKLOADS:
            sys.exit(3)
        bench = Threads(name, workers, n)
    else:
        kind = ExecutorPool if mode == "processes" else MultiprocessingPool
        if name not in Processes.WORKLOADS or (name == "P5" and kind is MultiprocessingPool):
            sys.exit(3)
        bench = Processes(kind, name, workers, n)
    bench.WORKLOADS[name](bench)
    if mode == "threads":
        bench.pool.shutdown()
    else:
        bench.pool.close()


if __name__ == "__main__":
    main()

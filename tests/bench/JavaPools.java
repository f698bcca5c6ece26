// javac -d . tests/bench/JavaPools.java && java -cp . JavaPools tpe|fjp WORKLOAD WORKERS N
//
// The workloads of bench.h on java.util.concurrent: tpe is the ThreadPoolExecutor of
// Executors.newFixedThreadPool, fjp is ForkJoinPool. Four passes warm the compiler up, then one is
// measured. T8m counts bytes of the heap after a collection; the CPU time that Java tells has steps
// of 10 ms, too coarse for T8i.

import java.lang.management.ManagementFactory;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorCompletionService;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.Future;
import java.util.concurrent.RecursiveTask;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;

public class JavaPools {
    private interface Body {
        void run() throws Exception;
    }

    private static final int WARM_UPS = 4;
    private static String mode, workload;
    private static int workers, n;
    private static long started, cpuStarted;
    private static volatile long sink;

    private static long cpu() {
        var system = ManagementFactory.getOperatingSystemMXBean();
        return ((com.sun.management.OperatingSystemMXBean) system).getProcessCpuTime();
    }

    private static void start() {
        cpuStarted = cpu();
        started = System.nanoTime();
    }

    private static void emit(double value, double count, String more) {
        System.out.printf("java-%s %s %.2f cpu=%.1f%s%n", mode, workload, value,
                          (cpu() - cpuStarted) / count, more);
    }

    private static void stop(long count) {
        emit((double) (System.nanoTime() - started) / count, count, "");
    }

    private static void check(boolean ok) {
        if (!ok) {
            System.err.println("wrong result");
            System.exit(4);
        }
    }

    private static void warmed(Body body) throws Exception {
        for (int i = 0; i < WARM_UPS; i++) {
            body.run();
        }
        System.gc();
        start();
        body.run();
        stop(n);
    }

    private static ExecutorService newPool(int workers) {
        return mode.equals("tpe") ? Executors.newFixedThreadPool(workers)
                                  : new ForkJoinPool(workers);
    }

    private static void fire(ExecutorService pool) throws Exception {
        var latch = new CountDownLatch(n);
        Runnable task = latch::countDown;
        for (int i = 0; i < n; i++) {
            pool.execute(task);
        }
        latch.await();
    }

    @SuppressWarnings("unchecked")
    private static void takeInOrder(ExecutorService pool, int n) throws Exception {
        var futures = (Future<Long>[]) new Future<?>[n];
        long sum = 0;
        for (int i = 0; i < n; i++) {
            final long value = i;
            futures[i] = pool.submit(() -> value);
        }
        for (Future<Long> future : futures) {
            sum += future.get();
        }
        check(sum == (long) n * (n - 1) / 2);
    }

    private static long roundTrips(ExecutorService pool, int n, long pause) throws Exception {
        long total = 0;
        for (int i = 0; i < n; i++) {
            final long value = i, end = System.nanoTime() + pause;
            while (System.nanoTime() < end) {
                Thread.onSpinWait();
            }
            final long begin = System.nanoTime();
            check(pool.submit(() -> value).get() == value);
            total += System.nanoTime() - begin;
        }
        return total;
    }

    private static void t2(ExecutorService pool, long pause) throws Exception {
        roundTrips(pool, 10000, 0);
        start();
        emit((double) roundTrips(pool, n, pause) / n, n, "");
    }

    private static final class Fib extends RecursiveTask<Long> {
        private static final long serialVersionUID = 1;
        private final int n;

        Fib(int n) {
            this.n = n;
        }

        @Override
        protected Long compute() {
            if (n < 2) {
                return (long) n;
            }
            var spawned = new Fib(n - 1);
            spawned.fork();
            final long called = new Fib(n - 2).compute();
            return spawned.join() + called;
        }
    }

    private static long plainFib(int n) {
        return n < 2 ? n : plainFib(n - 1) + plainFib(n - 2);
    }

    private static void t3(ForkJoinPool pool) {
        for (int i = 0; i < WARM_UPS; i++) {
            pool.invoke(new Fib(n - 2));
        }
        start();
        final long value = pool.invoke(new Fib(n));
        stop(2 * plainFib(n + 1) - 1);
        check(value == plainFib(n));
    }

    private static double item(double x) {
        return x * x + 1.0;
    }

    private static void map(ExecutorService pool, double[] in, double[] out, int chunk)
            throws Exception {
        if (pool instanceof ForkJoinPool && chunk > 1) {
            pool.submit(() -> IntStream.range(0, n).parallel().forEach(i -> out[i] = item(in[i])))
                .get();
            return;
        }
        var futures = new Future<?>[(n + chunk - 1) / chunk];
        for (int j = 0; j < futures.length; j++) {
            final int from = j * chunk, end = Math.min(n, from + chunk);
            futures[j] = pool.submit(() -> {
                for (int i = from; i < end; i++) {
                    out[i] = item(in[i]);
                }
            });
        }
        for (Future<?> future : futures) {
            future.get();
        }
    }

    private static void t4(ExecutorService pool, int chunk) throws Exception {
        double[] in = new double[n], out = new double[n];
        for (int i = 0; i < n; i++) {
            in[i] = i;
        }
        warmed(() -> map(pool, in, out, chunk));
        for (int i = 0; i < n; i++) {
            check(out[i] == in[i] * in[i] + 1.0);
        }
    }

    private static void takeAsCompleted(ExecutorService pool) throws Exception {
        var completions = new ExecutorCompletionService<Long>(pool);
        long sum = 0;
        for (int i = 0; i < n; i++) {
            final long value = i;
            completions.submit(() -> value);
        }
        for (int i = 0; i < n; i++) {
            sum += completions.take().get();
        }
        check(sum == (long) n * (n - 1) / 2);
    }

    private static void produce(ExecutorService pool, int producers) throws Exception {
        var threads = new Thread[producers];
        for (int i = 0; i < producers; i++) {
            threads[i] = new Thread(() -> {
                try {
                    takeInOrder(pool, n / producers);
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            });
            threads[i].start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
    }

    private static long work(long x) {
        for (int i = 0; i < 13000; i++) {
            x ^= x >>> 30;
            x *= 0xbf58476d1ce4e5b9L;
            x ^= x >>> 27;
            x *= 0x94d049bb133111ebL;
            x ^= x >>> 31;
        }
        return x;
    }

    private static double workTime() {
        double best = Double.MAX_VALUE;
        for (int round = 0; round < 40; round++) {
            final long begin = System.nanoTime();
            for (int i = 0; i < 20; i++) {
                sink = work(i + sink);
            }
            best = Math.min(best, (System.nanoTime() - begin) / 20.0);
        }
        return best;
    }

    private static <T> void runAll(ExecutorService pool, Callable<T> task) throws Exception {
        var futures = new Future<?>[n];
        for (int i = 0; i < n; i++) {
            futures[i] = pool.submit(task);
        }
        for (Future<?> future : futures) {
            future.get();
        }
    }

    private static void t7(ExecutorService pool) throws Exception {
        final double seq = workTime();
        final long seed = sink;
        runAll(pool, () -> work(seed));
        start();
        runAll(pool, () -> work(seed));
        final double ns = (double) (System.nanoTime() - started) / n;
        final int atOnce = Math.min(workers, Runtime.getRuntime().availableProcessors());
        emit(ns, n, String.format(" eff=%.4f", seq / atOnce / ns));
    }

    private static void t7s() throws Exception {
        double ns = 0;
        for (int pass = 0; pass < 2; pass++) {
            start();
            var pool = newPool(workers);
            runAll(pool, () -> {
                Thread.sleep(100);
                return 0L;
            });
            ns = System.nanoTime() - started;
            pool.shutdown();
        }
        emit(ns - 100e6, 1, "");
    }

    private static long heap() {
        System.gc();
        System.gc();
        return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
    }

    private static void t8m(ExecutorService pool) throws Exception {
        var futures = new Future<?>[n];
        var inside = new CountDownLatch(workers);
        var gate = new CountDownLatch(1);
        for (int i = 0; i < workers; i++) {
            pool.execute(() -> {
                inside.countDown();
                try {
                    gate.await();
                } catch (InterruptedException e) {
                    throw new IllegalStateException(e);
                }
            });
        }
        inside.await();
        final long before = heap();
        start();
        for (int i = 0; i < n; i++) {
            final long value = i;
            futures[i] = pool.submit(() -> value);
        }
        emit((double) (heap() - before) / n, n, "");
        gate.countDown();
        for (Future<?> future : futures) {
            future.get();
        }
    }

    private static void createRunDestroy() throws Exception {
        for (int i = 0; i < n; i++) {
            var pool = newPool(workers);
            pool.submit(() -> 0L).get();
            pool.shutdown();
            pool.awaitTermination(10, TimeUnit.SECONDS);
        }
    }

    private static void run(ExecutorService pool) throws Exception {
        switch (workload) {
        case "T1" -> warmed(() -> fire(pool));
        case "T1f" -> warmed(() -> takeInOrder(pool, n));
        case "T2" -> t2(pool, 0);
        case "T2c" -> t2(pool, 200_000);
        case "T4" -> t4(pool, n / (workers * 8) + 1);
        case "T4c1" -> t4(pool, 1);
        case "T5" -> warmed(() -> takeAsCompleted(pool));
        case "T6p2", "T6p4" -> warmed(() -> produce(pool, workload.charAt(3) - '0'));
        case "T7" -> t7(pool);
        case "T7s" -> t7s();
        case "T8m" -> t8m(pool);
        case "T8c" -> warmed(JavaPools::createRunDestroy);
        default -> {
            if (!workload.equals("T3") || !(pool instanceof ForkJoinPool)) {
                System.exit(3);
            }
            t3((ForkJoinPool) pool);
        }
        }
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 4) {
            System.err.println("usage: JavaPools tpe|fjp WORKLOAD WORKERS N");
            System.exit(2);
        }
        mode = args[0];
        workload = args[1];
        workers = Integer.parseInt(args[2]);
        n = Integer.parseInt(args[3]);
        var pool = newPool(workers);
        run(pool);
        pool.shutdownNow();
    }
}

// go build -o goroutines tests/bench/goroutines.go
//
// The workloads of bench.h in Go: a goroutine for each task, GOMAXPROCS = W with the submitter
// among them, as Go knows no producer outside; a channel of one as the future.
package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

var (
	workload   string
	workers, n int
	started    time.Time
	cpuStarted int64
)

func cpu() int64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func start() {
	cpuStarted = cpu()
	started = time.Now()
}

func emit(value, count float64, more string) {
	fmt.Printf("go %s %.2f cpu=%.1f%s\n", workload, value, float64(cpu()-cpuStarted)/count, more)
}

func stop(count int) {
	emit(float64(time.Since(started).Nanoseconds())/float64(count), float64(count), "")
}

func check(ok bool) {
	if !ok {
		fmt.Fprintln(os.Stderr, "wrong result")
		os.Exit(4)
	}
}

func submit(fn func() int) chan int {
	future := make(chan int, 1)
	go func() { future <- fn() }()
	return future
}

func fire(n int) {
	var group sync.WaitGroup
	group.Add(n)
	for i := 0; i < n; i++ {
		go group.Done()
	}
	group.Wait()
}

func takeInOrder(n int) {
	futures := make([]chan int, n)
	for i := range futures {
		i := i
		futures[i] = submit(func() int { return i })
	}
	sum := 0
	for _, future := range futures {
		sum += <-future
	}
	check(sum == n*(n-1)/2)
}

func roundTrips(n int, pause time.Duration) (total time.Duration) {
	for i := 0; i < n; i++ {
		for end := time.Now().Add(pause); time.Now().Before(end); {
		}
		i := i
		begin := time.Now()
		check(<-submit(func() int { return i }) == i)
		total += time.Since(begin)
	}
	return total
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	future := submit(func() int { return fib(n - 1) })
	called := fib(n - 2)
	return <-future + called
}

func plainFib(n int) int {
	if n < 2 {
		return n
	}
	return plainFib(n-1) + plainFib(n-2)
}

func runMap(in, out []float64, chunk int) {
	var group sync.WaitGroup
	for from := 0; from < len(in); from += chunk {
		from, end := from, from+chunk
		if end > len(in) {
			end = len(in)
		}
		group.Add(1)
		go func() {
			for i := from; i < end; i++ {
				out[i] = in[i]*in[i] + 1
			}
			group.Done()
		}()
	}
	group.Wait()
}

func t4(chunk int) {
	in, out := make([]float64, n), make([]float64, n)
	for i := range in {
		in[i] = float64(i)
	}
	runMap(in, out, chunk)
	start()
	runMap(in, out, chunk)
	stop(n)
	for i := range in {
		check(out[i] == in[i]*in[i]+1)
	}
}

func takeAsCompleted(n int) {
	completions := make(chan int, 1024)
	go func() {
		for i := 0; i < n; i++ {
			i := i
			go func() { completions <- i }()
		}
	}()
	sum := 0
	for i := 0; i < n; i++ {
		sum += <-completions
	}
	check(sum == n*(n-1)/2)
}

func produce(producers int) {
	var group sync.WaitGroup
	group.Add(producers)
	for i := 0; i < producers; i++ {
		go func() {
			takeInOrder(n / producers)
			group.Done()
		}()
	}
	group.Wait()
}

func work(x uint64) uint64 {
	for i := 0; i < 13000; i++ {
		x ^= x >> 30
		x *= 0xbf58476d1ce4e5b9
		x ^= x >> 27
		x *= 0x94d049bb133111eb
		x ^= x >> 31
	}
	return x
}

// workTime gives the ns of one work and a value of it, so that it is not optimised away.
func workTime() (float64, uint64) {
	best, x := math.Inf(1), uint64(1)
	for round := 0; round < 20; round++ {
		begin := time.Now()
		for i := 0; i < 20; i++ {
			x = work(x)
		}
		best = math.Min(best, float64(time.Since(begin).Nanoseconds())/20)
	}
	return best, x
}

func runAll(n int, fn func(i int) int) {
	futures := make([]chan int, n)
	for i := range futures {
		i := i
		futures[i] = submit(func() int { return fn(i) })
	}
	for _, future := range futures {
		<-future
	}
}

func t7() {
	seq, x := workTime()
	burn := func(i int) int { return int(work(x + uint64(i))) }
	runAll(n/10, burn)
	start()
	runAll(n, burn)
	ns := float64(time.Since(started).Nanoseconds()) / float64(n)
	atOnce := math.Min(float64(runtime.NumCPU()), float64(workers))
	emit(ns, float64(n), fmt.Sprintf(" eff=%.4f", seq/atOnce/ns))
}

func t7s() {
	start()
	runAll(n, func(int) int {
		time.Sleep(100 * time.Millisecond)
		return 0
	})
	emit(float64(time.Since(started).Nanoseconds())-100e6, 1, "")
}

func t8m() {
	futures := make([]chan int, n)
	gate := make(chan int)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start()
	for i := range futures {
		futures[i] = submit(func() int { return <-gate })
	}
	runtime.ReadMemStats(&after)
	emit(float64(after.Sys-before.Sys)/float64(n), float64(n), "")
	close(gate)
	for _, future := range futures {
		<-future
	}
}

func t8i() {
	fire(n)
	time.Sleep(100 * time.Millisecond)
	start()
	time.Sleep(200 * time.Millisecond)
	emit(5*float64(cpu()-cpuStarted), 1, "")
}

// twice runs fn for warming up, then measures it.
func twice(fn func()) {
	fn()
	start()
	fn()
	stop(n)
}

func t2(pause time.Duration) {
	roundTrips(n/10, pause)
	start()
	emit(float64(roundTrips(n, pause).Nanoseconds())/float64(n), float64(n), "")
}

func t3() {
	fib(n - 5)
	start()
	value := fib(n)
	stop(2*plainFib(n+1) - 1)
	check(value == plainFib(n))
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: goroutines WORKLOAD WORKERS N")
		os.Exit(2)
	}
	workload = os.Args[1]
	workers, _ = strconv.Atoi(os.Args[2])
	n, _ = strconv.Atoi(os.Args[3])
	runtime.GOMAXPROCS(workers)
	switch workload {
	case "T1":
		twice(func() { fire(n) })
	case "T1f":
		twice(func() { takeInOrder(n) })
	case "T2":
		t2(0)
	case "T2c":
		t2(200 * time.Microsecond)
	case "T3":
		t3()
	case "T4":
		t4(n/(workers*8) + 1)
	case "T4c1":
		t4(1)
	case "T5":
		twice(func() { takeAsCompleted(n) })
	case "T6p2", "T6p4":
		twice(func() { produce(int(workload[3] - '0')) })
	case "T7":
		t7()
	case "T7s":
		t7s()
	case "T8m":
		t8m()
	case "T8i":
		t8i()
	default:
		os.Exit(3)
	}
}

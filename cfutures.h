/* cfutures.h - 0.1.0 - Python's concurrent.futures for C, in one header - MIT licence
 *
 * Do this in ONE C file, before any other include:
 *
 *     #define CFUTURES_IMPLEMENTATION
 *     #include "cfutures.h"
 *
 * and a plain #include "cfutures.h" wherever else you need it. Nothing to link: cc -std=c11 prog.c
 * (with -pthread where the C library still keeps threads apart: glibc before 2.34, the BSDs).
 * `grep '>>' cfutures.h` is the map of this file; `make man` turns its comments into manual pages.
 *
 * ---------------------------------------------------------------------------------------------
 * MANUAL                                                                              >>manual
 * ---------------------------------------------------------------------------------------------
 *
 * QUICK START
 *
 * A task is a function, an executor runs it, and a future is where its result will be.
 *
 *     #define CFUTURES_IMPLEMENTATION
 *     #include "cfutures.h"
 *     #include <stdio.h>
 *
 *     static int square(cf_task *task, void *arg)
 *     {
 *         int n = *(int *)arg;
 *         if (n > 46340) return cf_task_fail(task, 1, "%d is too big", n);
 *         n *= n;
 *         return cf_task_return(task, &n, sizeof n);
 *     }
 *
 *     int main(void)
 *     {
 *         const int numbers[3] = {2, 50000, 3};
 *         cf_executor *pool = cf_thread_pool_new(NULL, NULL);
 *
 *         cf_future *future =
 *             cf_executor_submit(pool, square, CF_VALUE(int, 7));
 *         const int *result = cf_future_result(future, CF_FOREVER, NULL);
 *         if (result != NULL) printf("%d\n", *result);
 *         else printf("failed: %s\n", cf_future_error_message(future));
 *         cf_future_release(future);
 *
 *         cf_map_iter *squares =
 *             cf_executor_map(pool, square, numbers, 3, sizeof(int), NULL);
 *         for (int i = 0; i < 3; i++) {
 *             const int *next = cf_map_next(squares, NULL);
 *             if (next != NULL) printf("%d\n", *next);
 *             else printf("failed: %s\n", cf_map_error_message(squares));
 *         }
 *         cf_map_close(squares);
 *
 *         cf_executor_close(pool); // waits for all tasks
 *         return 0;
 *     }
 *
 * It prints 49, 4, "failed: 50000 is too big" and 9. Nothing is checked but the results: a pool
 * that could not be made is NULL, and everything that is asked of NULL says so in the end.
 *
 * To take results in the order in which they come:
 *
 *     cf_status status;
 *     size_t index; // of the future, in the array
 *     cf_as_completed_iter *iter =
 *         cf_as_completed(futures, count, 5 * CF_SECOND);
 *     for (cf_future *next;
 *          (next = cf_as_completed_next(iter, &index, &status)) != NULL;)
 *         if (cf_future_wait(next, 0) != CF_OK)
 *             fprintf(stderr, "%zu failed: %s\n", index,
 *                     cf_future_error_message(next));
 *     if (status != CF_END) // most likely CF_TIMEOUT
 *         fprintf(stderr, "%zu left: %s\n", cf_as_completed_remaining(iter),
 *                 cf_strerror(status));
 *     cf_as_completed_close(iter);
 *
 * FROM PYTHON
 *
 * A method of a class is cf_<class>_<method>, a function of the module cf_<function>. Exceptions
 * are values of cf_status, where the names of Python's stand too.
 *
 *     Python                         C                            differs; who frees
 *     -----------------------------  ---------------------------  -------------------------------
 *     ThreadPoolExecutor(n)          cf_thread_pool_new           yours: cf_executor_close
 *     ProcessPoolExecutor(n)         cf_process_pool_new          yours: cf_executor_close; needs
 *                                                                 CFUTURES_POSIX
 *     InterpreterPoolExecutor(n)     none                         threads of C share everything,
 *                                                                 and run in parallel anyway
 *     (submit that runs the call)    cf_inline_executor_new       yours: cf_executor_close
 *     max_workers=,                  max_workers and name of      0 and NULL are the defaults
 *       thread_name_prefix=          cf_pool_options
 *     initializer=, initargs=        `initializer`, `worker_arg`  returns a status; there is a
 *                                                                 finalizer too
 *     mp_context=                    `start_method`               a zygote that forks, or spawn
 *     max_tasks_per_child=           the same                     with every start method
 *     with executor:                 cf_executor_close            the end of the block: waits for
 *                                                                 all tasks, frees the executor
 *     executor.submit(f, x)          cf_executor_submit           the future is yours:
 *                                                                 cf_future_release. Refused, it
 *                                                                 is done, and says why
 *     (deadline of a task)           cf_executor_submit_with      and a destructor of its argument
 *     [submit(f, x) for x in xs]     cf_executor_submit_many      each future is yours
 *     executor.map(f, xs)            cf_executor_map,             yours: cf_map_close. A result
 *                                    cf_map_next                  lives until the next call; an
 *                                                                 error ends its item alone
 *     list(executor.map(f, xs))      cf_executor_map_array        two arrays of yours, and nothing
 *                                                                 to free
 *     executor.shutdown(wait,        cf_executor_shutdown         has a deadline, and frees
 *       cancel_futures=True)                                      nothing
 *     terminate_workers(),           cf_executor_kill_workers     SIGTERM, or SIGKILL; the pool is
 *       kill_workers()                                            still to be closed
 *     return x                       cf_task_return               copied; or without a copy:
 *                                                                 cf_task_result_buffer,
 *                                                                 cf_task_return_owned
 *     raise Error("...")             cf_task_fail                 return what it returns; the
 *                                                                 message is copied
 *     future.result(timeout)         cf_future_result             lives as long as your reference
 *     future.exception(timeout)      cf_future_wait,              the same
 *                                    cf_future_error_code,
 *                                    cf_future_error_message
 *     future.cancel()                cf_future_cancel             done at once for every observer;
 *                                                                 a running task is asked to stop
 *     future.cancelled(),            cf_future_cancelled,         never block
 *       running(), done()            cf_future_running,
 *                                    cf_future_done
 *     future.add_done_callback(f)    cf_future_add_done_callback  `user` stays yours
 *     repr(future)                   cf_future_repr               into a buffer of yours
 *     Future()                       cf_future_new                a promise; yours
 *     set_result, set_exception      cf_future_set_result,        copied; only for promises
 *                                    cf_future_set_error
 *     set_running_or_notify_cancel   cf_future_ + the same name   false where it was cancelled
 *     wait(fs, timeout,              cf_wait                      a count, and flags in an array
 *       return_when)                                              of yours
 *     as_completed(fs, timeout)      cf_as_completed,             yours: cf_as_completed_close;
 *                                    cf_as_completed_next         the futures are borrowed
 *     asyncio.wrap_future(future)    cf_as_completed_fd           a descriptor for any event loop
 *     os.process_cpu_count()         cf_cpu_count                 knows cgroup quotas too
 *
 * OWNERSHIP
 *
 * - What you make you end: an executor by cf_executor_close, a future by cf_future_release, an
 *   iterator by cf_map_close or cf_as_completed_close. NULL is fine for each of them.
 * - A future is reference counted. Each submit, cf_future_new and cf_future_retain give you one
 *   reference; give it back whenever you like. Giving it back early does not disturb the task.
 *   A future may outlive its executor.
 * - Results and messages belong to their future, and live as long as your reference; those of a
 *   map live until the next cf_map_next.
 * - An argument with arg_size > 0 is copied (CF_VALUE, CF_STRING), so a local variable may die.
 *   With arg_size 0 the pointer itself is passed (CF_POINTER): what it points to has to live until
 *   the task has ended. `free_arg` of cf_submit_options is then called exactly once, whatever
 *   happens to the task, and before anybody can see the future done.
 * - Iterators, callbacks and hooks are lent their futures; cf_future_retain keeps one.
 * - Options are copied by the call. What their pointers `worker_arg` and `user` lead to stays
 *   yours: `worker_arg` until the executor is closed, `user` of cf_pool_options until its last
 *   future is released, `user` of a callback until it was called.
 *
 * ERRORS
 *
 * A function that makes or fetches something returns it, or NULL, and its last parameter, which may
 * be NULL, says why. A NULL executor or iterator may be passed on: the call answers CF_INVALID, so
 * one check where the results are read is enough. A task fails by returning non-zero; `return
 * cf_task_fail(task, code, "why %s", x)` says why. Then the future ends with CF_TASK_FAILED, with
 * code and message. cf_strerror has a sentence for each status, which says what to do about it.
 *
 * A failed future that is dropped without a look calls `on_unread_error` of cf_pool_options, so
 * that errors need not vanish. The library prints nothing, aborts nothing, and leaves errno alone.
 *
 * TIMEOUTS
 *
 * Nanoseconds, counted from the call, on a clock that no clock change moves: 5 * CF_SECOND. As a
 * parameter 0 polls and CF_FOREVER waits; in an options struct 0 means that there is none. When the
 * event and the deadline meet, the event wins. A wait that times out disturbs nothing: the task
 * goes on. The timeout of a task itself (cf_submit_options) is another thing, and another status:
 * CF_TASK_TIMEOUT.
 *
 * THREADS
 *
 * What may be called on the same object:
 *
 *     object and call                  by several threads at once?
 *     ===============================  =====================================
 *     executor: submit, submit_with,   yes; also by tasks, callbacks and
 *       submit_many, map, map_array,   free functions
 *       stats, shutdown, kill_workers
 *     executor: close                  yes, as the last call of all
 *     future: everything               yes, by whoever holds a reference
 *     promise: set_result, set_error   yes; the first one counts
 *     cf_wait                          yes
 *     as_completed and map iterators   by one thread at a time
 *     hooks of an observer             are called by several at once
 *     cf_task                          by its task alone, until it returns
 *     anything, in a signal handler    no
 *
 * Who sees what:
 *
 *     written before                            is seen by
 *     ========================================  =========================
 *     submit, map                               the task
 *     the task returns; set_result, set_error   whoever sees it done
 *     free_arg returns                          whoever sees it done
 *     a hook returns                            the next hook of its task,
 *                                               and whoever sees it done
 *     shutdown returns CF_OK                    the caller: no task, call-
 *                                               back, finalizer or free
 *                                               function runs any more
 *
 * No code of yours (task, callback, free function, initializer, hook) ever runs under a lock of
 * the library, so it may call whatever it likes. It has to return: longjmp, exceptions and the end
 * of the thread may not cross it. Threads of a pool have their signals blocked, so that the
 * handlers of the program run in its own threads (with POSIX threads; C11 knows no signal masks).
 *
 * WAITING IN TASKS
 *
 * Tasks may submit to their own pool and wait for the result, also with a single worker.
 *
 * - A worker that waits for a future of its own pool that has not started runs that task itself, on
 *   its own stack: exactly the one it waits for, never a stranger. So do not hold a mutex across a
 *   wait if the awaited task takes it. Many tasks deep, another thread goes on in its name.
 * - When tasks wait for each other in a circle, across executors too, the wait that closes it
 *   returns CF_DEADLOCK, and the others get on with that task's outcome. A wait with a finite
 *   timeout breaks a circle by itself, and a promise is never part of one.
 * - A task that a wait has begun is run to its end, even if that outlasts a finite timeout; a wait
 *   with timeout 0, or whose deadline has passed, begins none.
 * - A worker that submits to its own full queue runs the task at once instead of blocking. One that
 *   shuts its own pool down gets CF_DEADLOCK instead of waiting for itself.
 * - Callbacks of a process pool run on its manager thread: waiting there for a future of the same
 *   pool is CF_DEADLOCK, and submitting to its full queue CF_QUEUE_FULL.
 *
 * A running task cannot be interrupted, unless it runs in a process of its own: cf_future_cancel,
 * its deadline, or the end of the map that it belongs to only ask. It sees that by
 * cf_task_stop_requested.
 *
 * PROCESSES
 *
 * With CFUTURES_POSIX defined, cf_process_pool_new makes an executor of worker processes. One word
 * changes in the program; everything else stays the same.
 *
 * What crosses: bytes, through shared memory. A result of more than about a kilobyte is read where
 * the worker wrote it. A pointer (arg_size 0, worker_arg, or one inside the argument) means in the
 * worker what it meant when the pool was made: memory from before is there, as it was then. What a
 * task writes elsewhere than into its result stays in its worker.
 *
 * How they start: cf_process_pool_new forks one zygote, which has a single thread and forks the
 * workers when there is work, and their successors. So make the pool early: before other threads,
 * which may hold locks at that moment that nobody will ever give back in the workers; before big
 * allocations, whose page tables a fork copies; and before files and sockets are opened that
 * workers should not hold open. With CF_START_SPAWN (Linux) the zygote is this program started
 * anew: no memory is inherited, pointers are mere integers, and cf_process_main(argc, argv) has to
 * be the first statement of main. Tasks may be static functions, but must lie in the executable
 * itself, not in a shared library.
 *
 * Crashes: a worker that dies costs the task that it was running, whose future ends with
 * CF_WORKER_LOST and says "worker 4711 was killed by signal 11 (SIGSEGV)". Of a chunk of a map only
 * the item that ran is lost. Tasks that had not started run elsewhere, and another worker takes its
 * place when there is work for it. Only workers that die again and again while they start break the
 * pool in the end: CF_BROKEN.
 *
 * Deadlines: a task that runs for longer than its `timeout` is killed, by SIGTERM and after
 * `kill_grace` by SIGKILL. Its future ends with CF_TASK_TIMEOUT when the worker is dead. A complete
 * result wins over the death or the deadline that follows it. cf_executor_kill_workers ends all.
 * What a task has started itself is not killed with its worker. Two ways: it asks for that
 * (on Linux prctl(PR_SET_PDEATHSIG, SIGKILL) between its fork and exec), which goes no further than
 * to the child; or the task begins with setpgid(0, 0), writes its process group into shared memory,
 * and whoever finds the future done kills the group, as examples/ptest.c does.
 *
 * In a worker signals have their default actions and are not blocked; SIGINT is ignored, so that
 * Ctrl-C is the program's own business. Standard input is the null device. stdout and stderr are
 * flushed after each task; other streams are not, and a worker ends by _exit. Executors of the
 * program answer CF_FORKED there, and cf_task_executor is NULL. Limits of memory or CPU time are
 * set by the initializer (setrlimit).
 *
 * The program is left alone: no signal handler, no waiting for children that are not the library's,
 * no SIGPIPE, every descriptor closed on exec. It may ignore SIGCHLD, or reap all its children.
 * When it dies, however it dies, zygote and workers die too. In a child that it forks itself, its
 * executors answer CF_FORKED instead of hanging, and cf_executor_close frees their memory.
 *
 * Workers isolate crashes. They are no sandbox: they have all the rights of the program.
 *
 * EVENT LOOPS
 *
 * cf_as_completed_fd gives a descriptor that is readable whenever cf_as_completed_next would not
 * block: a future has ended, time is up, or nothing is left. Watch it with poll, epoll, libuv or
 * GLib, and take what is ready each time:
 *
 *     size_t index;
 *     cf_as_completed_iter *iter =
 *         cf_as_completed(futures, count, CF_FOREVER);
 *     struct pollfd event = {cf_as_completed_fd(iter), POLLIN, 0};
 *     while (cf_as_completed_remaining(iter) > 0 && poll(&event, 1, -1) > 0)
 *         while (cf_as_completed_try_next(iter, &index, NULL) != NULL)
 *             printf("%zu is done\n", index);
 *     cf_as_completed_close(iter);
 *
 * A loop that lives on puts more futures in by cf_as_completed_add. Between the last one and the
 * next it must not watch the descriptor, which is readable at the end too: watch it only while
 * cf_as_completed_remaining is not 0 (to poll, give -1 instead), or put in a promise that nobody
 * keeps, so that there is no end. Where there are no descriptors, call cf_as_completed_try_next
 * whenever it suits, or let callbacks tell: cf_future_add_done_callback.
 *
 * OBSERVERS
 *
 * A pool tells an observer what happens in it, to draw a timeline, to write a log, to count:
 *
 *     static void on_event(const cf_event *event, void *user)
 *     {
 *         FILE *log = user;
 *         fprintf(log, "%lld %d %p %s\n", (long long)event->time,
 *                 (int)event->kind, event->task,
 *                 cf_status_name(event->status));
 *     }
 *
 *     cf_observer observer = {.started = on_event, .finished = on_event,
 *                             .user = stderr};
 *     cf_pool_options options = {.observer = &observer};
 *     pool = cf_thread_pool_new(&options, NULL);
 *
 * Each task is told as submitted once, as started at most once, and as finished once, in this order
 * whatever the threads do: each hook has returned before the next of the same task is called, and
 * the last before the future can be seen done. A task that never runs, since it was cancelled,
 * withdrawn, or refused for a shutdown or a full queue, is finished without a start. What is
 * refused before that, for its arguments or for want of memory for a future, is not told at all.
 * When cf_executor_close has returned, or cf_executor_shutdown with CF_OK, all has been told.
 *
 * A chunk of a map is one task, and so is each worker's share of a map_array; but a task that calls
 * map_array on its own pool does its own share itself, which is not told. Where a worker process
 * dies in a chunk, the chunk has finished, and what is left of it is submitted anew.
 *
 * Events of different tasks are told by several threads at once, so a hook locks what it shares.
 * In a process pool one thread of the host tells all but submits and cancels, one by one; results
 * then reach those who wait for them through that thread, some 10 us later than without an
 * observer.
 *
 * No lock is held around a hook: it may call cf_executor_stats, submit, cancel and release; what it
 * submits to the same pool is told too. It should not wait, since the task and whoever waits for it
 * wait with it, and it must not wait for the task that it is told of. In a process pool to wait for
 * the same pool is CF_DEADLOCK, as in a callback.
 *
 * For a bar nobody needs an observer: cf_as_completed_remaining and cf_map_progress count.
 *
 * BUILD OPTIONS
 *
 * Macros, to be defined before the include; the second column says in which file.
 *
 *     macro                     where               meaning
 *     ------------------------  ------------------  ---------------------------------------------
 *     CFUTURES_IMPLEMENTATION   one C file          the functions themselves; not in C++, which
 *                                                   can only include the declarations
 *     CFUTURES_STATIC           with it             every function is static, so that several
 *                                                   files may have an implementation of their own
 *     CFUTURES_API              every file          what stands before each function, for example
 *                                                   __declspec(dllexport); default: extern
 *     CFUTURES_POSIX            every file that     cf_process_pool_new and what goes with it,
 *                               wants it, and the   and cf_as_completed_fd; threads are POSIX
 *                               implementation      threads
 *     CFUTURES_PTHREADS         implementation      POSIX threads instead of <threads.h>; chosen
 *                                                   by itself where there is none, and under
 *                                                   ThreadSanitizer
 *     CFUTURES_NO_FUTEX         implementation      sleep on a mutex and a condition variable, on
 *                                                   Linux too
 *     CFUTURES_MALLOC(size),    implementation      another allocator, thread-safe and aligned for
 *       CFUTURES_FREE(ptr)                          any type; both or none
 *     CFUTURES_ASSERT(cond)     implementation      is told of misuse that no status can report;
 *                                                   default: nothing. Include <assert.h> and try
 *                                                   -DCFUTURES_ASSERT=assert
 *     CFUTURES_TEST_POINT(id)   implementation      for tests: where a race could open; default:
 *                                                   nothing
 *     CFUTURES_TEST_ATOMIC(w),  implementation      for tests: tell a race checker of each atomic
 *       CFUTURES_TEST_RELEASE,                      access, of what is released and of what is
 *       CFUTURES_TEST_ACQUIRE                       acquired; default: nothing; all or none
 *     CFUTURES_TEST_RECEIVED(p, implementation      for tests: tell a memory checker of n bytes at
 *       n)                                          p that another process has written; default:
 *                                                   nothing
 *
 * PLATFORMS
 *
 * C11 with <stdatomic.h>, and either <threads.h> or POSIX threads. The declarations alone are C++11
 * too. On Linux threads sleep on futexes and deadlines follow the monotonic clock, without any
 * feature macro. Elsewhere they sleep on mutexes and condition variables, and with C11 threads
 * deadlines follow TIME_UTC, the only clock that C11 has; POSIX threads follow the monotonic clock.
 * With C11 threads `stack_size` is refused, since there is no way to set it.
 *
 * Tested on Linux, x86-64, with glibc and musl, gcc and clang. The code asks nothing particular of
 * a processor. It has branches for macOS and the BSDs, where it was not run yet; none for Windows.
 * A thread of musl has a stack of 128 KiB: set `stack_size` there for tasks that need more.
 *
 * DIFFERENCES FROM PYTHON
 *
 * On purpose, each for a reason:
 *
 *     Python                         here, and why
 *     -----------------------------  ------------------------------------------------------------
 *     wait and as_completed do not   A cancelled future is done for every observer at once, so no
 *       see a cancelled future until wait hangs on what will never run.
 *       a worker picks it up
 *     as_completed's timeout begins  From the call, as documented there: an absolute deadline does
 *       with the first next()        not move because somebody looks late.
 *     result() may return before     The same: results do not wait for callbacks. Release in the
 *       the callbacks have run       callback what only the callback needs.
 *     one dead worker process        It costs its own task, and is replaced. `break_on_crash` of
 *       breaks the pool              cf_pool_options gives Python's rule.
 *     queued calls of a process      CF_STATE_RUNNING means that the function has started: until
 *       pool are "running", and can  then cf_future_cancel works.
 *       not be cancelled
 *     executor calls in a worker     They answer CF_FORKED, because an error can be found and a
 *       process hang                 hang can not.
 *     map ends at the first error    The error belongs to its item, and the rest is delivered;
 *       (until 3.15)                 `stop_on_error` of cf_map_options ends it.
 *     wait() checks return_when      A bad value is refused before anything else: the answer is 0.
 *       only if it has to block
 *     waiting for one's own pool     Runs the awaited task, or says CF_DEADLOCK.
 *       may hang
 *     errors that nobody asks for    `on_unread_error` of cf_pool_options hears of them.
 *       vanish
 *     shutdown() waits for ever,     It takes a timeout and may be asked again; and there is
 *       or not at all                cf_executor_kill_workers.
 *     map over a pool that is shut   Items that could not be submitted fail with CF_SHUTDOWN: no
 *       down ends early, silently    silence.
 *     submit never blocks            The same by default; `queue_limit` and `on_full` of
 *                                    cf_pool_options bound the memory that a fast producer takes.
 *     one TimeoutError               CF_TIMEOUT is the caller's patience, CF_TASK_TIMEOUT the
 *                                    task's own deadline: they call for different reactions.
 *     submit raises                  It always returns a future, so errors are handled in one
 *                                    place: where results are read.
 *     pools end at exit              Nothing runs at exit: a library in a plugin can not know when
 *                                    that is. Close your pools.
 *     chunksize means nothing to     It works for both, and errors, deadlines and progress stay
 *       threads                      those of each item.
 *     the interpreter lock           There is none: threads run in parallel. Take processes for
 *                                    isolation, for killing, and for code that is not thread-safe.
 *
 * COSTS
 *
 * Orders of magnitude on a desktop processor; `make bench` measures them on yours.
 *
 *     what                           costs              because
 *     -----------------------------  -----------------  -----------------------------------------
 *     a task, one of many            0.1 to 1 us        one object of 96 bytes, reused; a lock
 *     the same by map_array          some ns an item    no object at all: workers share the range
 *     submit, wait for it, again     1 us               where a CPU is free to spin, up to 20 us
 *     the same, workers asleep       10 to 50 us        what the system takes to wake a thread
 *     fork-join inside a task        some 10 ns         nobody is woken: see WAITING IN TASKS
 *     argument or result             nothing, or one    up to 32 bytes lie inside the future, an
 *                                    malloc             argument beside options up to 16
 *     cf_wait, as_completed on n     O(n)               one node a future, delivered once
 *     as_completed, the next one     O(1)               it arrives, nobody searches
 *     a thread                       30 us              once for each worker, on demand
 *     a process pool                 one fork           0.2 ms, more for a big process
 *     a task in a process            some us            shared memory, and no system call while
 *                                                       both sides are awake
 *     an observer                    nothing without    one test of a pointer; else the clock and
 *                                                       your hook, three times a task
 *     a pool without work            0 CPU              workers sleep; 1 MiB of futures is kept,
 *                                                       what a burst left for 75 ms more
 *     the code, by -Os on x86-64     some 10 kB         `size` of your object file tells
 *
 * LIMITS
 *
 * - In a thread pool a task that crashes takes the program with it.
 * - A thread cannot be interrupted: a task that never returns blocks its worker, and the close.
 * - Workers stay until the shutdown; a pool does not shrink. There are no priorities and no timers.
 * - Tasks may not be waited for in a signal handler; nothing may be called there.
 * - Everything may be cancelled but what runs. Running items of a map that is closed go on to their
 *   end, and cf_map_close does not wait for them.
 * - It is version 0.1.0: names may be added, but none changes its meaning.
 */

#if defined(CFUTURES_IMPLEMENTATION) && !defined(__cplusplus) && !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE 1 /* additive: shows syscall and clock_gettime under -std=c11 */
#endif

#ifndef CFUTURES_H
#define CFUTURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------------
 * config                                                                              >>config
 * --------------------------------------------------------------------------------------------- */

#ifndef CFUTURES_API
#ifdef CFUTURES_STATIC
#if defined(__GNUC__)
#define CFUTURES_API __attribute__((unused)) static
#else
#define CFUTURES_API static
#endif
#else
#define CFUTURES_API extern
#endif
#endif

#define CFUTURES_VERSION_MAJOR 0
#define CFUTURES_VERSION_MINOR 1
#define CFUTURES_VERSION_PATCH 0
#define CFUTURES_VERSION_STRING "0.1.0"

/* cf_version -- the version of the library, "0.1.0".
 * Python: none.
 * Returns a static string, never NULL.
 * Threads: any. Blocks: never.
 * Note: CFUTURES_VERSION_STRING is the version of the declarations; where the two differ, the
 *   object file comes from another header. */
CFUTURES_API const char *cf_version(void);

/* ---------------------------------------------------------------------------------------------
 * status                                                                              >>status
 * --------------------------------------------------------------------------------------------- */

/* cf_status -- how a call went, or how a future ended.
 * Errors are negative. In brackets what Python raises.
 * CF_OK: it went well.
 * CF_END: an iterator has nothing more (StopIteration).
 * CF_TIMEOUT: the wait ran out; nothing is disturbed, the task goes on (TimeoutError).
 * CF_CANCELLED: it was cancelled, and never ran (CancelledError).
 * CF_TASK_FAILED: the task returned non-zero: see its code and its message (its exception).
 * CF_TASK_TIMEOUT: the task ran for longer than its own `timeout` (none).
 * CF_WORKER_LOST: its worker process died under it: see the message (BrokenProcessPool).
 * CF_BROKEN: the pool is broken for good: an initializer failed, no worker process can be started,
 *   or one died under `break_on_crash` (BrokenExecutor).
 * CF_SHUTDOWN: submitted after the shutdown (RuntimeError).
 * CF_QUEUE_FULL: refused by a bounded queue (none).
 * CF_DEADLOCK: to wait here could never end (none: it hangs).
 * CF_INVALID_STATE: an end for a future that has one, or that an executor owns (InvalidStateError).
 * CF_INVALID: an argument is NULL or out of range (ValueError).
 * CF_NO_MEMORY: out of memory (MemoryError).
 * CF_SYSTEM: the system refused a thread, a process, memory to share or a descriptor (OSError).
 * CF_FORKED: the executor belongs to the parent of this process (none: it hangs).
 * Note: a negative number is not an errno; cf_strerror has the words. */
typedef enum cf_status {
    CF_OK            = 0,
    CF_END           = 1,
    CF_TIMEOUT       = -1,
    CF_CANCELLED     = -2,
    CF_TASK_FAILED   = -3,
    CF_TASK_TIMEOUT  = -4,
    CF_WORKER_LOST   = -5,
    CF_BROKEN        = -6,
    CF_SHUTDOWN      = -7,
    CF_QUEUE_FULL    = -8,
    CF_DEADLOCK      = -9,
    CF_INVALID_STATE = -10,
    CF_INVALID       = -11,
    CF_NO_MEMORY     = -12,
    CF_SYSTEM        = -13,
    CF_FORKED        = -14
} cf_status;

/* cf_status_name -- the name of a status, "CF_TIMEOUT" for CF_TIMEOUT.
 * Python: type(exception).__name__
 * status: any number; what is no status gives "CF_?".
 * Returns a static string, never NULL.
 * Threads: any. Blocks: never.
 * Note: made for logs; cf_strerror is made for people. */
CFUTURES_API const char *cf_status_name(cf_status status);

/* cf_strerror -- what a status means and what to do about it, in one sentence.
 * Python: str(exception)
 * status: any number; what is no status has a sentence too.
 * Returns a static string, never NULL, without a full stop.
 * Threads: any. Blocks: never.
 * Note: cf_future_error_message knows better where the task said why, and falls back on this. */
CFUTURES_API const char *cf_strerror(cf_status status);

/* cf_duration, CF_MICROSECOND, CF_MILLISECOND, CF_SECOND, CF_FOREVER -- a span of time.
 * Nanoseconds, on a clock that no clock change moves. As a parameter 0 polls, and anything negative
 * waits for ever; in an options struct 0 means that there is none, and so does anything negative.
 * The longest is 292 years.
 * Python: seconds as float; None.
 * Note: a bare 5 is five nanoseconds: write 5 * CF_SECOND. */
typedef int64_t cf_duration;
#define CF_MICROSECOND ((cf_duration)1000)
#define CF_MILLISECOND (1000 * CF_MICROSECOND)
#define CF_SECOND      (1000 * CF_MILLISECOND)
#define CF_FOREVER     ((cf_duration)-1)

/* ---------------------------------------------------------------------------------------------
 * types                                                                                >>types
 * --------------------------------------------------------------------------------------------- */

/* cf_executor, cf_future, cf_task, cf_map_iter, cf_as_completed_iter -- the library's objects.
 * All are opaque.
 * cf_executor: runs tasks: on threads, on processes, or in the caller. Ends by cf_executor_close.
 * cf_future: where a result will be. Reference counted, may outlive its executor. Ends by the last
 *   cf_future_release.
 * cf_task: the running call, as the task sees it. Lives until the task returns.
 * cf_map_iter: the results of a map, one after the other. Ends by cf_map_close.
 * cf_as_completed_iter: futures in the order of their ends. Ends by cf_as_completed_close.
 * Python: Executor, Future, none, and two generators. */
typedef struct cf_executor          cf_executor;
typedef struct cf_future            cf_future;
typedef struct cf_task              cf_task;
typedef struct cf_map_iter          cf_map_iter;
typedef struct cf_as_completed_iter cf_as_completed_iter;

/* cf_task_fn, cf_initializer_fn, cf_finalizer_fn, cf_free_fn, cf_callback_fn -- functions of yours.
 * cf_task_fn: a task. `arg` is its own copy of the argument, which it may change, or the pointer of
 *   the submit call; readable until it returns. 0 is success; anything else fails the future with
 *   that code.
 * cf_initializer_fn: before the first task of each worker, in it; non-zero breaks the pool.
 * cf_finalizer_fn: after the last task of each worker, in it.
 * cf_free_fn: gets rid of an argument or of a result.
 * cf_callback_fn: is told that a future is done; the future is lent, cf_future_retain keeps it.
 * Python: any callable.
 * Threads: each runs under no lock of the library, and may call what it likes.
 * Note: all of them have to return. longjmp, C++ exceptions, and the end of the thread or of the
 *   program may not cross them. A worker process may end itself: that costs its task. */
typedef int  cf_task_fn(cf_task *task, void *arg);
typedef int  cf_initializer_fn(void *arg);
typedef void cf_finalizer_fn(void *arg);
typedef void cf_free_fn(void *ptr);
typedef void cf_callback_fn(cf_future *future, void *user);

/* cf_event_kind -- what a hook is told.
 * CF_EVENT_SUBMITTED: a task is about to be queued; told by the thread that submits it.
 * CF_EVENT_STARTED: its function is called.
 * CF_EVENT_FINISHED: it has ended, or it never will run: `status` of the cf_event says how.
 * CF_EVENT_WORKER_STARTED: a worker is ready for tasks: its initializer, if any, went well.
 * CF_EVENT_WORKER_ENDED: it has run its last task and its finalizer; a process is dead.
 * Python: none. */
typedef enum cf_event_kind {
    CF_EVENT_SUBMITTED,
    CF_EVENT_STARTED,
    CF_EVENT_FINISHED,
    CF_EVENT_WORKER_STARTED,
    CF_EVENT_WORKER_ENDED
} cf_event_kind;

/* cf_event -- one moment in the life of a task or of a worker.
 * It lives until the hook returns, and so does what it points to.
 * kind: which of the hooks is called.
 * status: CF_EVENT_FINISHED: what cf_future_wait would say: CF_OK, CF_TASK_FAILED, CF_TASK_TIMEOUT,
 *   CF_WORKER_LOST, CF_NO_MEMORY; of what did not start CF_CANCELLED, CF_BROKEN, or how it was
 *   refused. CF_EVENT_WORKER_ENDED: CF_OK, or CF_WORKER_LOST where a process died or was killed.
 *   Else CF_OK.
 * code: of the error, as cf_future_error_code; else 0.
 * message: of the error, as cf_future_error_message; else "".
 * time: when it happened, in nanoseconds on the clock that the timeouts follow. In a process pool
 *   the worker has measured start and end; only the end of a worker, or of the task that it ran, is
 *   when the host heard of it.
 * executor: borrowed; not NULL.
 * task: which task, the same in all of its events: the address of its future. Another task may have
 *   it after CF_EVENT_FINISHED. NULL: a worker's event.
 * fn: the task's function, of a map the function for its items; NULL: a worker's event.
 * arg: CF_EVENT_SUBMITTED: what the task will be called with; of a chunk of a map the first item.
 *   NULL elsewhere, and for a share of map_array.
 * arg_size: in bytes; 0: arg is the pointer of the caller.
 * items: 1. For a chunk of a map its items; once it has finished, how many of them have run. For a
 *   worker's share of map_array 0, then how many it has run. CF_EVENT_FINISHED without a start: 0.
 * worker: the number of the worker, as cf_task_worker; SIZE_MAX where there is none.
 * pid: of the worker process; 0 in a thread pool.
 * Python: none.
 * Note: a chunk, or a share of map_array, has the status of its first item that failed. One that
 *   was stopped between two items has CF_CANCELLED. */
typedef struct cf_event {
    cf_event_kind kind;
    cf_status     status;
    int           code;
    const char   *message;
    cf_duration   time;
    cf_executor  *executor;
    const void   *task;
    cf_task_fn   *fn;
    const void   *arg;
    size_t        arg_size;
    size_t        items;
    size_t        worker;
    long          pid;
} cf_event;

/* cf_event_fn -- a hook: is told of an event.
 * It is called as hook(event, user).
 * Python: none.
 * Threads: CF_EVENT_SUBMITTED: whoever submits. Else the worker; in a process pool one thread of
 *   the host, never the worker. What ends without having run is told by whoever cancels or
 *   withdraws it. Several hooks may run at once. No lock is held.
 * Note: it may call what a callback may: see OBSERVERS in the manual. */
typedef void cf_event_fn(const cf_event *event, void *user);

/* cf_observer -- who is told of what happens in a pool: for timelines, logs and metrics.
 * Each hook may be NULL, and several may be the same function: `kind` of cf_event says which it is.
 * submitted: before the task can be seen by any worker.
 * started: before its function is called, and after submitted has returned.
 * finished: once for each submitted, after started has returned, before the future can be seen
 *   done.
 * worker_started: before the first task of the worker is told.
 * worker_ended: once for each worker_started, after all tasks of the worker were told.
 * user: passed to all of them. Borrowed until the executor is closed.
 * Python: none. */
typedef struct cf_observer {
    cf_event_fn *submitted;
    cf_event_fn *started;
    cf_event_fn *finished;
    cf_event_fn *worker_started;
    cf_event_fn *worker_ended;
    void        *user;
} cf_observer;

/* cf_on_full -- what a submit does when `queue_limit` tasks wait already.
 * CF_FULL_BLOCK: waits for room. A worker of the pool runs the task at once instead, since nobody
 *   else might make room.
 * CF_FULL_REJECT: the future is done, with CF_QUEUE_FULL.
 * CF_FULL_CALLER_RUNS: the caller runs the task. Not for process pools.
 * Python: none; its queues have no limit. */
typedef enum cf_on_full { CF_FULL_BLOCK = 0, CF_FULL_REJECT, CF_FULL_CALLER_RUNS } cf_on_full;

/* cf_start_method -- where worker processes come from.
 * CF_START_FORK: a fork of this process as it is when the pool is made.
 * CF_START_SPAWN: this program anew; needs cf_process_main, and Linux.
 * Python: the mp_context "forkserver" with all modules loaded, and "spawn". */
typedef enum cf_start_method { CF_START_FORK = 0, CF_START_SPAWN } cf_start_method;

/* cf_pool_options -- what a pool is like, of threads or of processes.
 * Zero is the default of each field, so `{.max_workers = 4}` sets one of them, and NULL options are
 * all defaults. The struct is copied by the call.
 * max_workers: at most so many, started on demand. 0: of threads min(32, cf_cpu_count() + 4), of
 *   processes cf_cpu_count(). At most 2^20 threads.
 * name: worker n is shown as "<name>_<n>" by ps, top and debuggers. Copied; cut to fit 15 bytes
 *   with the number. NULL: "cf". Linux only; ignored elsewhere.
 * initializer: called with worker_arg in every worker before its first task; non-zero breaks the
 *   pool (CF_BROKEN). NULL: none. It is not told the number of its worker: see cf_task_worker.
 * finalizer: called with worker_arg when a worker ends whose initializer went well; not in a
 *   process that is killed or crashes. NULL: none.
 * worker_arg: passed to both. Borrowed until the executor is closed; processes get the pointer.
 * stack_size: bytes for each worker thread, rounded up; 0: the platform's. CF_INVALID with C11
 *   threads, ignored by process pools.
 * queue_limit: how many tasks may wait while no worker is free for them or can be started; 0: any
 *   number. At most PTRDIFF_MAX.
 * on_full: what a submit does then.
 * on_unread_error: called when a failed future is dropped that nobody looked at, in the thread that
 *   drops it. Looking is: cf_future_wait and cf_future_result once it is done, its error code and
 *   message, and delivery by a map; not its state, cf_wait or as_completed. Refusals count as
 *   errors; undelivered items of a map are told one by one, as CF_NO_MEMORY where memory is short;
 *   cancelled futures never. NULL: none.
 * user: passed to on_unread_error. Borrowed until the last future of the executor is released.
 * start_method: process pools. The default is CF_START_FORK.
 * max_tasks_per_child: process pools: so many tasks, then another process takes the worker's place.
 *   A chunk of a map is one task. 0: no limit.
 * break_on_crash: process pools. True is Python's rule: a worker that dies unasked breaks the pool.
 *   The task that it ran ends with CF_WORKER_LOST, all others that have not ended with CF_BROKEN.
 * kill_grace: process pools: from SIGTERM to SIGKILL. 0: one second. Negative: never SIGKILL.
 * observer: its hooks are told of tasks and workers. Copied. NULL: none.
 * Python: the parameters of ThreadPoolExecutor and ProcessPoolExecutor.
 * Note: the fields for process pools are refused by a thread pool with CF_INVALID, unless zero. */
typedef struct cf_pool_options {
    size_t             max_workers;
    const char        *name;
    cf_initializer_fn *initializer;
    cf_finalizer_fn   *finalizer;
    void              *worker_arg;
    size_t             stack_size;
    size_t             queue_limit;
    cf_on_full         on_full;
    void (*on_unread_error)(cf_future *future, void *user);
    void              *user;
    /* process pools only */
    cf_start_method    start_method;
    size_t             max_tasks_per_child;
    bool               break_on_crash;
    cf_duration        kill_grace;
    /* both */
    const cf_observer *observer;
} cf_pool_options;

/* ---------------------------------------------------------------------------------------------
 * executor                                                                          >>executor
 * --------------------------------------------------------------------------------------------- */

/* cf_thread_pool_new -- make a pool of threads, started on demand.
 * A submit starts a thread only if none is free and max_workers allows. Threads stay until the
 * shutdown.
 * Python: ThreadPoolExecutor(max_workers, thread_name_prefix, initializer, initargs)
 * options: copied; NULL: all defaults.
 * status: filled; may be NULL.
 * Returns the executor, for you to end by cf_executor_close, or NULL with *status
 *   CF_INVALID: an option is out of range or is for process pools, or stack_size with C11 threads.
 *   CF_NO_MEMORY: out of memory.
 * Threads: any. Blocks: never.
 * Note: the result needs no check of its own. A pool that is NULL gives futures that are done, with
 *   CF_INVALID, so the error is met where results are read. */
CFUTURES_API cf_executor *cf_thread_pool_new(const cf_pool_options *options, cf_status *status);

/* cf_inline_executor_new -- make an executor without threads: submit runs the task, then returns.
 * For tests, for step after step in a debugger, and for systems without threads to spare.
 * Python: none; an Executor whose submit calls the function.
 * status: filled; may be NULL.
 * Returns the executor, for you to end by cf_executor_close, or NULL with *status
 *   CF_NO_MEMORY: out of memory.
 * Threads: any; tasks that several threads submit run at the same time. Blocks: never.
 * Note: a map without buffersize runs all of its tasks in the call that makes the iterator. There
 *   are no options, so nobody can observe it. Tasks that submit to it nest as calls do, all on one
 *   stack. */
CFUTURES_API cf_executor *cf_inline_executor_new(cf_status *status);

#ifdef CFUTURES_POSIX

/* cf_process_pool_new -- make a pool of processes, started on demand.
 * Python: ProcessPoolExecutor(max_workers, mp_context, initializer, initargs, max_tasks_per_child)
 * options: copied; NULL: all defaults.
 * status: filled; may be NULL.
 * Returns the executor, for you to end by cf_executor_close, or NULL with *status
 *   CF_INVALID: an option is out of range; CF_FULL_CALLER_RUNS; CF_START_SPAWN in a program that
 *   did not call cf_process_main, or with an initializer or finalizer outside the executable.
 *   CF_NO_MEMORY: out of memory, or of address space.
 *   CF_SYSTEM: the system refused a process, a thread or a descriptor.
 * Threads: any; better before others are started. Blocks: for one fork.
 * Note: what a task needs besides its argument has to exist before this call: workers see memory as
 *   it is now, not as it is when the task is submitted. */
CFUTURES_API cf_executor *cf_process_pool_new(const cf_pool_options *options, cf_status *status);

#endif

/* cf_executor_submit -- have fn(task, arg) run, and get the future of its result.
 * Tasks start in the order of submission; those that a task submits, in any order.
 * Python: executor.submit(fn, arg)
 * executor: where; NULL: CF_INVALID.
 * fn: the task; NULL: CF_INVALID.
 * arg: with arg_size > 0 that many bytes are copied, aligned for any type, so it may die after the
 *   call; NULL is CF_INVALID then. With arg_size 0 the pointer itself is passed, which may be NULL,
 *   and what it points to has to live until the task has ended.
 * arg_size: in bytes; 0: pass the pointer.
 * Returns a future, never NULL; one reference is yours. When the task cannot be scheduled the
 *   future is done already, and waiting for it says
 *   CF_INVALID: see above; or a function outside the executable, under CF_START_SPAWN.
 *   CF_SHUTDOWN: the executor was shut down.
 *   CF_BROKEN: the pool is broken.
 *   CF_QUEUE_FULL: `queue_limit` tasks wait, and CF_FULL_REJECT says not to; or the caller is a
 *   callback of a process pool.
 *   CF_DEADLOCK: in a task: to wait for room could never end.
 *   CF_NO_MEMORY: out of memory. The future may be one that several refusals share.
 *   CF_SYSTEM: there is no thread, and none could be started; or the caller was to run the task,
 *   its stack is full of such tasks, and no thread could be started for one more.
 *   CF_FORKED: the executor belongs to the parent of this process.
 * Threads: any, also tasks, callbacks and free functions.
 * Blocks: on a full queue, under CF_FULL_BLOCK. The inline executor and CF_FULL_CALLER_RUNS run the
 *   task in the call.
 * Note: `&x, 0` passes a pointer to x and `&x, sizeof x` its value. CF_VALUE, CF_STRING, CF_POINTER
 *   and CF_NO_ARG say which at a glance. */
CFUTURES_API cf_future *cf_executor_submit(cf_executor *executor, cf_task_fn *fn, const void *arg,
                                           size_t arg_size);

/* cf_submit_options -- what is special about one task.
 * Zero is the default of each field.
 * free_arg: called with arg exactly once, whatever happens to the task, also when it never runs or
 *   is refused, and before the future can be seen done. Only with arg_size 0. NULL: none.
 * timeout: of the task, from its start; 0 and negative: none. The future ends with CF_TASK_TIMEOUT:
 *   a worker process is killed then; a thread can only be asked to stop (cf_task_stop_requested),
 *   and it counts when the function returns, whatever it returns.
 * Python: none. */
typedef struct cf_submit_options {
    cf_free_fn *free_arg;
    cf_duration timeout;
} cf_submit_options;

/* cf_executor_submit_with -- submit a task with a deadline, or with a destructor of its argument.
 * Python: none.
 * executor: as for cf_executor_submit.
 * fn: as for cf_executor_submit.
 * arg: as for cf_executor_submit; taken, where free_arg is given.
 * arg_size: as for cf_executor_submit.
 * options: copied; NULL: all defaults.
 * Returns as cf_executor_submit, and
 *   CF_INVALID: free_arg with arg_size > 0. In this case alone free_arg is not called.
 * Threads: any. free_arg runs in the worker, in whoever cancels, or here. Blocks: as
 *   cf_executor_submit.
 * Note: the timeout counts from the start of the task, not from this call; for a deadline of the
 *   caller see cf_future_wait. */
CFUTURES_API cf_future *cf_executor_submit_with(cf_executor *executor, cf_task_fn *fn,
                                                const void *arg, size_t arg_size,
                                                const cf_submit_options *options);

/* cf_executor_submit_many -- submit a task for each item of an array, in one go.
 * Python: [executor.submit(fn, item) for item in items]
 * executor: as for cf_executor_submit.
 * fn: as for cf_executor_submit.
 * items: count times item_size bytes, copied. With item_size 0 every task gets `items` itself.
 * count: how many; 0 does nothing.
 * item_size: in bytes; 0: pass the pointer.
 * futures: filled with count futures, never NULL; one reference each is yours.
 * Returns CF_OK, or how the first refused task was refused; then others may have been submitted,
 *   and every place holds a future all the same. The causes are those of cf_executor_submit, and
 *   CF_INVALID: futures is NULL; then nothing is filled in.
 * Threads: any. Blocks: as cf_executor_submit.
 * Note: to release them is a loop of yours. Where only results matter, cf_executor_map_array needs
 *   no futures. */
CFUTURES_API cf_status cf_executor_submit_many(cf_executor *executor, cf_task_fn *fn,
                                               const void *items, size_t count, size_t item_size,
                                               cf_future **futures);

/* CF_VALUE, CF_STRING, CF_POINTER, CF_NO_ARG -- the argument forms, readable at the call.
 * cf_executor_submit(pool, square, CF_VALUE(int, 7)): each stands for arg and arg_size.
 * CF_VALUE: type and value; a copy. Braces are implied: CF_VALUE(struct pair, 1, 2). In C only.
 * CF_STRING: the characters with their end, copied; needs <string.h>. Not NULL.
 * CF_POINTER: the pointer itself; what it points to has to live until the task has ended.
 * CF_NO_ARG: the task gets NULL.
 * Python: positional arguments.
 * Note: CF_VALUE(char *, s) copies a pointer, so the task gets a char **; for the text take
 *   CF_STRING(s). */
#define CF_VALUE(type, ...) CF__VALUE(type, __VA_ARGS__)
#define CF_STRING(s)        (s), (strlen(s) + 1)
#define CF_POINTER(p)       (p), ((size_t)0)
#define CF_NO_ARG           NULL, ((size_t)0)

/* So that the compiler answers a misuse of CF_VALUE with a sentence. */
#if defined(__cplusplus)
#define CF__VALUE(type, ...)                                                                      \
    ([]() -> const void * {                                                                       \
        static_assert(sizeof(type) == 0, "CF_VALUE is for C: pass &variable, sizeof variable");   \
        return 0;                                                                                 \
    }()), sizeof(type)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define CF__VALUE(type, ...)                                                                      \
    (&(type){__VA_ARGS__}),                                                                       \
        (sizeof(type) + 0 * sizeof(struct {                                                       \
             _Static_assert(sizeof(type) > 0, "CF_VALUE: an empty type, pass CF_NO_ARG");         \
             char unused;                                                                         \
         }))
#else
#define CF__VALUE(type, ...) (&(type){__VA_ARGS__}), sizeof(type)
#endif

/* cf_shutdown_mode -- what becomes of tasks that have not started when an executor is shut down.
 * CF_RUN_PENDING: they run.
 * CF_CANCEL_PENDING: they are cancelled.
 * Python: cancel_futures=False, and True.
 * Note: neither asks running tasks to stop. */
typedef enum cf_shutdown_mode { CF_RUN_PENDING = 0, CF_CANCEL_PENDING } cf_shutdown_mode;

/* cf_executor_shutdown -- have an executor take no more tasks and end its workers.
 * Pending tasks run before, or are cancelled.
 * Python: executor.shutdown(wait, cancel_futures=); timeout 0 is wait=False, CF_FOREVER is True.
 * executor: not freed; NULL: CF_INVALID.
 * timeout: how long to wait for the end; 0: do not wait, CF_FOREVER: for ever.
 * mode: what becomes of pending tasks.
 * Returns
 *   CF_OK: no task, callback, finalizer or free function of it is running, or will.
 *   CF_TIMEOUT: not yet; ask again.
 *   CF_DEADLOCK: called by what it would wait for, with a timeout other than 0: by a task, callback
 *   or free function of its own, or by a task that its tasks wait for. It is shutting down.
 *   CF_INVALID: executor is NULL, or mode none of the two.
 *   CF_FORKED: the executor belongs to the parent of this process.
 * Threads: any, any number of times; CF_CANCEL_PENDING may follow CF_RUN_PENDING.
 * Blocks: up to timeout. Callbacks and free_arg of what it cancels run in the call.
 * Note: it frees nothing: cf_executor_close does. */
CFUTURES_API cf_status cf_executor_shutdown(cf_executor *executor, cf_duration timeout,
                                            cf_shutdown_mode mode);

/* cf_executor_close -- wait until all tasks have ended, and free the executor.
 * It is cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING), and then the end of the object.
 * Python: the end of the with block.
 * executor: taken; NULL is fine. Its futures and map iterators may outlive it.
 * Threads: any, as the last call with this executor.
 * Blocks: until all tasks have ended. Called by a task or callback of its own it only shuts down;
 *   the last one out frees.
 * Note: what is pending still runs. To leave early, call cf_executor_shutdown before, with
 *   CF_CANCEL_PENDING. */
CFUTURES_API void cf_executor_close(cf_executor *executor);

#ifdef CFUTURES_POSIX

/* cf_executor_kill_workers -- end a process pool by force.
 * Pending tasks are cancelled, running ones end with CF_WORKER_LOST, unless their result was
 * complete, and the pool is shut down.
 * Python: terminate_workers(), kill_workers()
 * executor: not freed; NULL: CF_INVALID.
 * signal: SIGTERM, followed by SIGKILL after `kill_grace`; or SIGKILL. They are in <signal.h>.
 * Returns
 *   CF_OK: it is on its way.
 *   CF_INVALID: executor is no process pool, or signal is another one.
 *   CF_FORKED: the executor belongs to the parent of this process.
 * Threads: any, any number of times; SIGKILL may follow SIGTERM. Callbacks and free_arg of what it
 *   cancels run in the call. Blocks: never.
 * Note: it does not wait for the end, and frees nothing: close the pool. */
CFUTURES_API cf_status cf_executor_kill_workers(cf_executor *executor, int signal);

/* cf_process_main -- let a program be its own worker: the first statement of main.
 * For programs that use CF_START_SPAWN: their workers are this program anew, and begin in main too.
 * Python: if __name__ == "__main__"
 * argc: of main.
 * argv: of main; borrowed.
 * Threads: before any other is started. Blocks: in a process that is part of a pool it does not
 *   return; in any other it returns at once.
 * Note: what stands before it in main is run by the zygote of each pool too. */
CFUTURES_API void cf_process_main(int argc, char **argv);

#endif

/* cf_stats -- what an executor has done so far.
 * workers: threads or processes there are, from the submit on that asked for them.
 * idle: of those, without a task.
 * queued: tasks that have not started.
 * running: tasks that have started and not ended.
 * submitted: tasks that were taken; refused ones are counted nowhere.
 * finished: those that ran and have ended, well or not.
 * failed: of those, the ones that failed.
 * cancelled: tasks that were cancelled before they started.
 * lost: of the failed ones, those whose worker process died under them: CF_WORKER_LOST.
 * restarts: worker processes started where there was one before.
 * Python: none.
 * Note: a chunk of a map is one task, and so is each worker's share of a map_array. */
typedef struct cf_stats {
    size_t workers, idle, queued, running;
    uint64_t submitted, finished, failed, cancelled, lost, restarts;
} cf_stats;

/* cf_executor_stats -- get what an executor has done so far.
 * Python: none.
 * executor: NULL, or one of the parent process: all zeros.
 * out: filled; NULL: nothing happens.
 * Threads: any. Blocks: never.
 * Note: the numbers are of one moment, but workers go on: they are for people and for tests, not to
 *   decide whether a submit would block. */
CFUTURES_API void cf_executor_stats(cf_executor *executor, cf_stats *out);

/* cf_cpu_count -- how many CPUs this process may use.
 * On Linux by its affinity mask and by the quotas of its cgroups (v1 and v2), rounded up; elsewhere
 * those that are online.
 * Python: os.process_cpu_count()
 * Returns at least 1.
 * Threads: any. Blocks: while it reads some small files.
 * Note: not how many the machine has: in a container with a quota of 1.5 CPUs it is 2. */
CFUTURES_API size_t cf_cpu_count(void);

/* ---------------------------------------------------------------------------------------------
 * task                                                                                  >>task
 *
 * For the function that runs as a task. Every `task` here is the one that it was called with.
 * --------------------------------------------------------------------------------------------- */

/* cf_task_return -- set the result of a task: a copy of size bytes.
 * Python: return value
 * task: not NULL.
 * data: copied; may be NULL where size is 0.
 * size: in bytes; 0: an empty result.
 * Returns 0, so `return cf_task_return(task, &r, sizeof r);` is the usual last line. Otherwise 1,
 *   and whatever the task returns then, its future ends with
 *   CF_NO_MEMORY: out of memory.
 *   CF_INVALID: longer than the result_size of cf_executor_map_array.
 * Threads: the task's. Blocks: never.
 * Note: it does not end the task, and the last call counts. When the task returns non-zero, the
 *   result is discarded. */
CFUTURES_API int cf_task_return(cf_task *task, const void *data, size_t size);

/* cf_task_result_buffer -- set the result of a task without a copy: get room for it, and fill it.
 * In a worker process, and in cf_executor_map_array, this is where the caller will read it.
 * Python: none.
 * task: not NULL.
 * size: in bytes; may be 0.
 * Returns the room, aligned for any type, its contents undefined, borrowed until the task returns.
 *   NULL where cf_task_return returns 1, for the same reasons.
 * Threads: the task's. Blocks: never.
 * Note: fill it before the task returns 0; and size is the result's size, there is no way to shrink
 *   it but another call. */
CFUTURES_API void *cf_task_result_buffer(cf_task *task, size_t size);

/* cf_task_return_owned -- set the result of a task without a copy: hand memory over.
 * Python: return value
 * task: not NULL.
 * data: taken: free_fn(data) is called exactly once. NULL: an empty result.
 * size: in bytes.
 * free_fn: called when the last reference of the future goes, or at once when the task fails, sets
 *   another result, or runs in a worker process or for cf_executor_map_array, where the bytes are
 *   copied. NULL: data is static, nothing has to be freed.
 * Returns 0, or 1 as cf_task_return; data is taken either way.
 * Threads: the task's; free_fn runs in whichever thread gives the last reference back. Blocks:
 *   never.
 * Note: hand over what free_fn can free: free for malloc, not memory inside a larger block. */
CFUTURES_API int cf_task_return_owned(cf_task *task, void *data, size_t size, cf_free_fn *free_fn);

/* cf_task_fail -- say why a task fails, as printf would.
 * Python: raise
 * task: not NULL.
 * code: yours to define; 0 becomes 1.
 * format: of printf, and what belongs to it. The message is cut after 1023 bytes; in a worker
 *   process somewhat earlier, but never before 255.
 * Returns code, or 1 where code is 0, so `return cf_task_fail(task, code, "...");` fails.
 * Threads: the task's. Blocks: never.
 * Note: it only keeps the message. The task fails by returning non-zero, and what it returns is the
 *   error code. cf_executor_map_array keeps no messages. */
CFUTURES_API int cf_task_fail(cf_task *task, int code, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* cf_task_arg_size -- how long the argument of a task is.
 * Python: none.
 * task: not NULL.
 * Returns the arg_size of the submit call, in a map its item_size; 0: the task got a pointer of the
 *   caller.
 * Threads: the task's. Blocks: never.
 * Note: of a CF_STRING it counts the end too: strlen + 1. */
CFUTURES_API size_t cf_task_arg_size(const cf_task *task);

/* cf_task_worker -- the number of the worker, to index state that each worker has of its own.
 * That state is an array, where the first task that finds its element empty fills it, as in
 * examples/fetch.c; or a _Thread_local variable (in processes any static one), which an initializer
 * can fill and a finalizer empty, neither of which is told the number.
 * Python: none; threading.local
 * task: not NULL.
 * Returns 0 to max_workers - 1. max_workers: a caller runs the task itself (CF_FULL_CALLER_RUNS).
 *   In an inline executor always 0.
 * Threads: the task's. Blocks: never.
 * Note: a task that waits may run others on its stack, with the same number: between two lines of
 *   yours with a wait in between, that state may have changed. */
CFUTURES_API size_t cf_task_worker(const cf_task *task);

/* cf_task_executor -- the executor that runs a task, to submit more to it.
 * Python: none.
 * task: not NULL.
 * Returns the executor, borrowed; NULL in a worker process, where it is not.
 * Threads: the task's. Blocks: never.
 * Note: a task may wait for what it submits there: see WAITING IN TASKS in the manual. */
CFUTURES_API cf_executor *cf_task_executor(cf_task *task);

/* cf_task_stop_requested -- is a task asked to stop early?
 * Python: none.
 * task: not NULL.
 * Returns true once cf_future_cancel was called for it, its own timeout has passed, or the map that
 *   it belongs to is over (closed, out of time, or stopped by an error).
 * Threads: the task's, and those that it started itself. Blocks: never.
 * Note: stopping is up to the task: it returns what it likes, and its future ends accordingly. A
 *   shutdown does not ask running tasks to stop. */
CFUTURES_API bool cf_task_stop_requested(const cf_task *task);

/* ---------------------------------------------------------------------------------------------
 * future                                                                              >>future
 * --------------------------------------------------------------------------------------------- */

/* cf_state -- how far a future is.
 * CF_STATE_PENDING: it has not started; cf_future_cancel still works.
 * CF_STATE_RUNNING: the function has started.
 * CF_STATE_CANCELLED: it never ran, and never will.
 * CF_STATE_FINISHED: it ended, with a result or with an error.
 * Python: pending, running, cancelled and finished, in repr. */
typedef enum cf_state {
    CF_STATE_PENDING,
    CF_STATE_RUNNING,
    CF_STATE_CANCELLED,
    CF_STATE_FINISHED
} cf_state;

/* cf_future_retain -- take one more reference to a future.
 * Python: another name for the object.
 * future: may be NULL.
 * Returns future.
 * Threads: any, while somebody holds a reference. Blocks: never.
 * Note: a callback or an iterator only lends you its future: retain what you keep. */
CFUTURES_API cf_future *cf_future_retain(cf_future *future);

/* cf_future_release -- give a reference to a future back; the last one frees it and its result.
 * Python: del
 * future: one reference is taken; NULL is fine.
 * Threads: any. With the last reference, here run: free_fn of cf_task_return_owned, on_unread_error
 *   of the pool, and the callbacks of a promise that nobody ended. Blocks: never.
 * Note: it cancels nothing: the task runs all the same. */
CFUTURES_API void cf_future_release(cf_future *future);

/* cf_future_state -- get how far a future is.
 * Python: none; repr
 * future: NULL: CF_STATE_FINISHED.
 * Returns the state; it may have changed by the time you look at it, except the last two.
 * Threads: any. Blocks: never.
 * Note: not a look at its error, in the sense of on_unread_error. */
CFUTURES_API cf_state cf_future_state(const cf_future *future);

/* cf_future_cancelled, cf_future_running, cf_future_done -- is a future in that state?
 * Python: cancelled(), running(), done()
 * future: NULL: it is done, with an error; so false, false, true.
 * Returns true or false. Done is what is finished or cancelled.
 * Threads: any. Blocks: never.
 * Note: to ask again and again is no way to wait: cf_future_wait is. */
CFUTURES_API bool cf_future_cancelled(const cf_future *future);
CFUTURES_API bool cf_future_running(const cf_future *future);
CFUTURES_API bool cf_future_done(const cf_future *future);

/* cf_future_cancel -- keep a task from running; if it runs already, ask it to stop.
 * Python: cancel()
 * future: NULL: false.
 * Returns true: it never ran and never will, it is done for every observer, and its free_arg has
 *   run; also the second time. False: it runs or has ended; then a running task sees
 *   cf_task_stop_requested.
 * Threads: any. Callbacks and free_arg run here. Blocks: never on the task; while another thread
 *   cancels it too, until free_arg has returned there.
 * Note: false does not mean that nothing happened: look how it ends. A refused future was not
 *   cancelled: false. */
CFUTURES_API bool cf_future_cancel(cf_future *future);

/* cf_future_wait -- wait until a future is done, and learn how it ended.
 * Python: exception(timeout)
 * future: borrowed.
 * timeout: 0 polls, CF_FOREVER waits.
 * Returns how it ended:
 *   CF_OK: there is a result.
 *   CF_CANCELLED: it was cancelled before it started; or a promise was dropped.
 *   CF_TASK_FAILED: the task returned non-zero.
 *   CF_TASK_TIMEOUT: it ran for longer than its own timeout.
 *   CF_WORKER_LOST: its worker process died.
 *   CF_BROKEN: the pool was broken, or broke before it ran or, under break_on_crash, meanwhile.
 *   CF_NO_MEMORY: out of memory, for the task or for its result.
 *   CF_SYSTEM: no worker could be started, or no memory be shared for a big argument.
 *   CF_SHUTDOWN, CF_QUEUE_FULL, CF_INVALID, CF_DEADLOCK, CF_FORKED: it was refused: see
 *   cf_executor_submit.
 *   Or that the wait is over, and the future is not done:
 *   CF_TIMEOUT: the time is up.
 *   CF_DEADLOCK: in a task: it could never end, since what is awaited waits for this task.
 *   CF_SYSTEM: in a task: many tasks deep, and no thread could be started to go on.
 *   CF_FORKED: its executor belongs to the parent of this process.
 *   CF_INVALID: future is NULL.
 * Threads: any number. Blocks: up to timeout. In a task it may run the awaited task.
 * Note: CF_SYSTEM, CF_DEADLOCK, CF_INVALID and CF_FORKED may be the end of the future, or only of
 *   this wait: cf_future_done says which. */
CFUTURES_API cf_status cf_future_wait(cf_future *future, cf_duration timeout);

/* cf_future_result -- wait until a future is done, and get its result.
 * Python: result(timeout)
 * future: borrowed.
 * timeout: 0 polls, CF_FOREVER waits.
 * status: filled with what cf_future_wait would return; may be NULL.
 * Returns the bytes, aligned for any type, as long as your reference lives; never NULL with CF_OK,
 *   also when the task set no result. Else NULL, and *status says why.
 * Threads: any number. Blocks: up to timeout. In a task it may run the awaited task.
 * Note: do not free it. Callbacks may not have run yet when it returns. */
CFUTURES_API const void *cf_future_result(cf_future *future, cf_duration timeout,
                                          cf_status *status);

/* cf_future_result_size -- how long the result of a future is.
 * Python: len(result())
 * future: may be NULL.
 * Returns bytes; 0 while there is no result, and where there will be none.
 * Threads: any. Blocks: never.
 * Note: 0 is also the size of an empty result; cf_future_wait tells them apart. */
CFUTURES_API size_t cf_future_result_size(const cf_future *future);

/* cf_future_error_code -- the number of a future's error.
 * Python: exception().args
 * future: may be NULL.
 * Returns what the task returned, never 0, for CF_TASK_FAILED; for CF_WORKER_LOST the signal, or
 *   the exit status + 256; else 0, also while it is not done.
 * Threads: any. Blocks: never.
 * Note: the status says what kind of error it is; this is a detail of it. */
CFUTURES_API int cf_future_error_code(const cf_future *future);

/* cf_future_error_message -- a future's error in words.
 * Python: str(exception())
 * future: NULL: the sentence for CF_INVALID.
 * Returns what cf_task_fail said, or a sentence; "" while it is not done, and where it ended well.
 *   Never NULL; valid as long as your reference lives.
 * Threads: any. Blocks: never.
 * Note: copy it before the release, if it is to be shown after it. */
CFUTURES_API const char *cf_future_error_message(const cf_future *future);

/* cf_future_add_done_callback -- have a function called once a future is done.
 * It is called as callback(future, user).
 * Python: add_done_callback(fn)
 * future: borrowed; callbacks are called also when all references were given back.
 * callback: not NULL. Added twice, it is called twice.
 * user: passed on; borrowed until then.
 * Returns
 *   CF_OK: it will be called, or has been.
 *   CF_NO_MEMORY: it will not be called.
 *   CF_INVALID: future or callback is NULL.
 * Threads: any. It is called by the thread that ends the future (a worker, the manager of a process
 *   pool, whoever cancels or sets the result), in order of addition; or, if it is done, here and
 *   now, perhaps before older ones. No lock is held: it may submit, wait, cancel, release.
 * Blocks: never, but for the callback itself.
 * Note: it runs in a thread that you did not choose: do not wait in it for what needs that thread.
 *   Results can be read before callbacks have run. */
CFUTURES_API cf_status cf_future_add_done_callback(cf_future *future, cf_callback_fn *callback,
                                                   void *user);

/* cf_future_repr -- describe a future as Python does.
 * "<Future at 0x27fe59c4088 state=pending>", "... state=running>", "... state=cancelled>",
 * "... state=finished returned 4 bytes>", "... state=finished raised CF_TASK_FAILED 22>".
 * Python: repr(future)
 * future: may be NULL.
 * buffer: filled, and ended with a zero, if size > 0; may be NULL where size is 0.
 * size: of the buffer, in bytes.
 * Returns the length of the whole text, as snprintf does; at least size: it was cut.
 * Threads: any. Blocks: never.
 * Note: 96 bytes are enough for all of them. */
CFUTURES_API int cf_future_repr(const cf_future *future, char *buffer, size_t size);

/* cf_future_new -- make a promise: a future that you end yourself.
 * For results that come from elsewhere: a callback of another library, an event loop, a test.
 * Python: Future()
 * Returns a pending future; one reference is yours. NULL: out of memory.
 * Threads: any. Blocks: never.
 * Note: when its last reference goes and it has no end, it is cancelled, and its callbacks run. But
 *   whoever waits for it holds a reference: end each promise yourself. */
CFUTURES_API cf_future *cf_future_new(void);

/* cf_future_set_running_or_notify_cancel -- say that work on a promise begins.
 * Python: the same.
 * future: a promise; NULL: false.
 * Returns true: it was pending and is running now, so that nobody can cancel it any more. False: it
 *   was cancelled, runs or has ended, or an executor owns it: do not begin.
 * Threads: any. Blocks: never.
 * Note: it is optional: a result may be set on a pending promise too. */
CFUTURES_API bool cf_future_set_running_or_notify_cancel(cf_future *future);

/* cf_future_set_result -- end a promise with a result.
 * Python: set_result(value)
 * future: a promise.
 * data: copied; may be NULL where size is 0.
 * size: in bytes.
 * Returns
 *   CF_OK: it is done.
 *   CF_INVALID_STATE: it is done already, perhaps cancelled; or an executor owns it.
 *   CF_NO_MEMORY: it is as it was; try again, or set an error.
 *   CF_INVALID: future is NULL, or data is NULL and size is not 0.
 * Threads: any; the first one counts. Callbacks run here. Blocks: never.
 * Note: your reference stays yours. */
CFUTURES_API cf_status cf_future_set_result(cf_future *future, const void *data, size_t size);

/* cf_future_set_error -- end a promise with CF_TASK_FAILED.
 * Python: set_exception(exception)
 * future: a promise.
 * code: its error code; 0 becomes 1.
 * message: copied; NULL: a sentence with the code.
 * Returns
 *   CF_OK: it is done.
 *   CF_INVALID_STATE: it is done already, perhaps cancelled; or an executor owns it.
 *   CF_NO_MEMORY: it is as it was; a NULL message needs none.
 *   CF_INVALID: future is NULL.
 * Threads: any; the first one counts. Callbacks run here. Blocks: never.
 * Note: your reference stays yours. */
CFUTURES_API cf_status cf_future_set_error(cf_future *future, int code, const char *message);

/* ---------------------------------------------------------------------------------------------
 * wait                                                                                  >>wait
 * --------------------------------------------------------------------------------------------- */

/* cf_return_when -- when cf_wait returns.
 * CF_ALL_COMPLETED: when all are done.
 * CF_FIRST_COMPLETED: when at least one is done.
 * CF_FIRST_EXCEPTION: when one has failed, or all are done. Cancelled is not failed.
 * Python: ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION */
typedef enum cf_return_when {
    CF_ALL_COMPLETED = 0,
    CF_FIRST_COMPLETED,
    CF_FIRST_EXCEPTION
} cf_return_when;

/* cf_wait -- wait for several futures.
 * Those of different executors, and promises, may be mixed.
 * Python: wait(fs, timeout, return_when)
 * futures: borrowed, as are those in it. NULL entries are skipped; NULL itself: 0.
 * count: of the entries.
 * when: for which of them to wait; a bad value gives 0 at once.
 * timeout: 0 polls, CF_FOREVER waits.
 * done: NULL, or filled with count flags that say which are done, duplicates each.
 * Returns how many distinct futures are done.
 * Threads: any. Blocks: up to timeout. In a task it may run awaited tasks, and where it could never
 *   end it returns at once; so it does for futures of the parent process.
 * Note: a timeout is no error: compare the result with what you asked for. Out of memory it still
 *   works, by looking every millisecond. */
CFUTURES_API size_t cf_wait(cf_future *const *futures, size_t count, cf_return_when when,
                            cf_duration timeout, bool *done);

/* cf_as_completed -- get futures in the order in which they end, those already done first.
 * Those of different executors, and promises, may be mixed.
 * Python: as_completed(fs, timeout)
 * futures: the array is copied, the futures are borrowed: each has to live until it was delivered,
 *   or the iterator is closed. NULL entries are skipped, and so are duplicates after the first.
 * count: of the entries; may be 0, for cf_as_completed_add.
 * timeout: of the whole iteration, from this call; 0 polls, CF_FOREVER waits.
 * Returns the iterator, for you to end by cf_as_completed_close. NULL: out of memory, or futures is
 *   NULL with a count; cf_as_completed_next then says CF_INVALID.
 * Threads: any. Blocks: never.
 * Note: the clock runs from here, not from the first cf_as_completed_next. */
CFUTURES_API cf_as_completed_iter *cf_as_completed(cf_future *const *futures, size_t count,
                                                   cf_duration timeout);

/* cf_as_completed_next -- wait for the next future that ends.
 * Python: next(iterator)
 * iter: NULL: CF_INVALID.
 * index: filled with its place in the array, or in the order of cf_as_completed_add; may be NULL.
 * status: filled; CF_OK with a future; may be NULL.
 * Returns the future, lent: it is done, and may be released from now on. NULL with *status
 *   CF_END: all have been delivered.
 *   CF_TIMEOUT: time is up. It may be called again: what has ended since is delivered.
 *   CF_DEADLOCK: in a task: it could never end.
 *   CF_SYSTEM: in a task: many tasks deep, and no thread could be started to go on.
 *   CF_FORKED: what is left belongs to executors of the parent process.
 *   CF_INVALID: iter is NULL.
 * Threads: one at a time for each iterator. Blocks: until one ends, or the deadline. In a task it
 *   may run awaited tasks.
 * Note: CF_OK says that there is a future; how that ended, cf_future_wait(future, 0) says. */
CFUTURES_API cf_future *cf_as_completed_next(cf_as_completed_iter *iter, size_t *index,
                                             cf_status *status);

/* cf_as_completed_try_next -- take the next future that has ended already, if there is one.
 * It is what cf_as_completed_next would do with its deadline at this moment: for a loop that has
 * other things to do, and for taking all that is ready when the descriptor says that some is.
 * Python: none.
 * iter: NULL: CF_INVALID.
 * index: filled as by cf_as_completed_next; may be NULL.
 * status: filled; CF_OK with a future; may be NULL.
 * Returns the future, lent: it is done, and may be released from now on. NULL with *status
 *   CF_TIMEOUT: none has ended that was not delivered.
 *   CF_END: all have been delivered.
 *   CF_FORKED: what is left belongs to executors of the parent process.
 *   CF_INVALID: iter is NULL.
 * Threads: one at a time for each iterator. Blocks: never; in a task it runs no other.
 * Note: CF_TIMEOUT says nothing about the deadline of the iterator. */
CFUTURES_API cf_future *cf_as_completed_try_next(cf_as_completed_iter *iter, size_t *index,
                                                 cf_status *status);

/* cf_as_completed_add -- put one more future into an iterator.
 * Python: none.
 * iter: NULL: CF_INVALID.
 * future: borrowed until it is delivered. NULL, and one that is waiting in there, are not put in.
 * Returns
 *   CF_OK: its index is the next; it is used up also where nothing was put in.
 *   CF_NO_MEMORY: nothing has changed.
 *   CF_INVALID: iter is NULL.
 * Threads: one at a time for each iterator. Blocks: never.
 * Note: it works after CF_END too, which then is no longer the end. The deadline stays. */
CFUTURES_API cf_status cf_as_completed_add(cf_as_completed_iter *iter, cf_future *future);

/* cf_as_completed_remaining -- how many futures an iterator has still to deliver.
 * Python: none; the count in TimeoutError.
 * iter: NULL: 0.
 * Returns that number: all minus it is the progress.
 * Threads: one at a time for each iterator. Blocks: never.
 * Note: they need not be running still: some may have ended and wait to be delivered. */
CFUTURES_API size_t cf_as_completed_remaining(const cf_as_completed_iter *iter);

/* cf_as_completed_close -- end an iterator over futures.
 * Python: close()
 * iter: taken; NULL is fine. Futures that it has not delivered must still live.
 * Threads: one at a time for each iterator. Blocks: never.
 * Note: it cancels nothing, releases nothing, and closes the descriptor of cf_as_completed_fd. */
CFUTURES_API void cf_as_completed_close(cf_as_completed_iter *iter);

#ifdef CFUTURES_POSIX

/* cf_as_completed_fd -- get a descriptor that tells when a future has ended.
 * Watch it with poll, epoll, libuv or GLib.
 * It is readable exactly while cf_as_completed_next would not block: when a future has ended, at
 * the deadline, and at the end.
 * Python: none; asyncio.wrap_future
 * iter: NULL: -1.
 * Returns the descriptor, the same each time, owned by the iterator; -1: the system refused.
 * Threads: one at a time for each iterator. Blocks: never.
 * Note: only watch it, and never read it or close it; and only while cf_as_completed_remaining is
 *   not 0, or it keeps a loop busy with telling the end. With timeout 0 it is always readable: make
 *   the iterator with CF_FOREVER or a real deadline. Outside Linux the deadline does not make it
 *   readable. */
CFUTURES_API int cf_as_completed_fd(cf_as_completed_iter *iter);

#endif

/* ---------------------------------------------------------------------------------------------
 * map                                                                                    >>map
 * --------------------------------------------------------------------------------------------- */

/* cf_map_options -- how to map items to results.
 * Zero is the default of each field.
 * timeout: of the whole iteration, from the call that begins it; 0 and negative: none. When it is
 *   up, what is ready is still delivered, and the rest is cancelled.
 * chunksize: items a task; 0: 1, for map_array on processes a fitting number. More makes tiny items
 *   cheaper; errors and results stay those of each item. Cut to buffersize.
 * buffersize: how many items may be submitted and not yet delivered; 0: all at once.
 * unordered: deliver as they end; cf_map_index says which it is.
 * stop_on_error: the first item that fails ends the iteration, and the rest is cancelled.
 * next_item: NULL, or where items come from, with items == NULL: fills item_size bytes, or returns
 *   false at the end. Called by the thread that consumes the results, in cf_executor_map and
 *   cf_map_next.
 * user: passed to next_item. Borrowed until the iterator is closed.
 * Python: timeout=, chunksize=, buffersize=, and a generator as iterable.
 * Note: with a generator that never ends, set buffersize. */
typedef struct cf_map_options {
    cf_duration timeout;
    size_t      chunksize;
    size_t      buffersize;
    bool        unordered;
    bool        stop_on_error;
    bool (*next_item)(void *item, void *user);
    void       *user;
} cf_map_options;

/* cf_executor_map -- run fn for every item, and get the results one by one, in the order of items.
 * All items are submitted in this call, or as many as buffersize allows.
 * Python: executor.map(fn, items, timeout=, chunksize=, buffersize=)
 * executor: where; NULL: the iterator is NULL. It may be closed before the iterator.
 * fn: the task; NULL: the iterator is NULL.
 * items: count times item_size bytes, copied. With item_size 0 every task gets `items` itself. NULL
 *   with next_item.
 * count: how many; with next_item at most so many, 0: no limit.
 * item_size: in bytes; 0: pass the pointer.
 * options: copied; NULL: all defaults.
 * Returns the iterator, for you to end by cf_map_close. NULL: out of memory, or bad arguments;
 *   cf_map_next then says CF_INVALID.
 * Threads: any. Blocks: as cf_executor_submit.
 * Note: tasks run even if nobody takes a result. Items that cannot be submitted fail one by one,
 *   each with its status; of a generator, one does, and the iteration ends. */
CFUTURES_API cf_map_iter *cf_executor_map(cf_executor *executor, cf_task_fn *fn, const void *items,
                                          size_t count, size_t item_size,
                                          const cf_map_options *options);

/* cf_map_next -- wait for the next result of a map.
 * Python: next(results)
 * iter: NULL: CF_INVALID.
 * status: filled; CF_OK with a result; may be NULL.
 * Returns the bytes, aligned for any type, until the next call; never NULL with CF_OK. Else NULL,
 *   for an item that failed, and the next call goes on with the next item; *status is
 *   CF_TASK_FAILED: the task returned non-zero: see cf_map_error_message.
 *   CF_WORKER_LOST: the worker process died while it ran this item.
 *   CF_CANCELLED: a shutdown or cf_executor_kill_workers kept it from running.
 *   CF_NO_MEMORY: out of memory; for items that could not be submitted too, once, at the end.
 *   CF_SHUTDOWN, CF_BROKEN, CF_QUEUE_FULL, CF_SYSTEM, CF_FORKED, CF_INVALID: it was refused.
 *   Or there is no item:
 *   CF_END: all have been delivered; or it ended before, by stop_on_error or CF_TIMEOUT.
 *   CF_TIMEOUT: time is up; the rest is cancelled, and the next call says CF_END.
 *   CF_DEADLOCK: in a task: it could never end.
 *   CF_SYSTEM: in a task: many tasks deep, and no thread could be started to go on.
 *   CF_FORKED: the executor belongs to the parent of this process.
 *   CF_INVALID: iter is NULL.
 * Threads: one at a time for each iterator. Blocks: until the item has ended, or the deadline. In a
 *   task it may run awaited tasks.
 * Note: NULL is not the end: an item that failed is NULL too. Go by the count of items, or until
 *   CF_END, and stop at a status that is not of an item. */
CFUTURES_API const void *cf_map_next(cf_map_iter *iter, cf_status *status);

/* cf_map_index -- which item of a map was just delivered, or failed.
 * Python: enumerate(results)
 * iter: NULL: 0.
 * Returns its index in the input, from 0 on.
 * Threads: one at a time for each iterator. Blocks: never.
 * Note: after CF_END and CF_TIMEOUT it is still the one before. */
CFUTURES_API size_t cf_map_index(const cf_map_iter *iter);

/* cf_map_result_size -- how long the result of a map is that was just delivered.
 * Python: len(result)
 * iter: NULL: 0.
 * Returns bytes; 0 where the item failed.
 * Threads: one at a time for each iterator. Blocks: never.
 * Note: a result may be empty; then it is not NULL, and its size is 0. */
CFUTURES_API size_t cf_map_result_size(const cf_map_iter *iter);

/* cf_map_error_code -- the number of the error of the item of a map that just failed.
 * Python: exception.args
 * iter: NULL: 0.
 * Returns as cf_future_error_code.
 * Threads: one at a time for each iterator. Blocks: never.
 * Note: 0 for errors that are not the task's own, such as CF_SHUTDOWN. */
CFUTURES_API int cf_map_error_code(const cf_map_iter *iter);

/* cf_map_error_message -- the error of the item of a map that just failed, in words.
 * Python: str(exception)
 * iter: NULL: the sentence for CF_INVALID.
 * Returns what cf_task_fail said, or a sentence; also for CF_TIMEOUT; "" after a result and at the
 *   end. Never NULL; valid until the next call of cf_map_next.
 * Threads: one at a time for each iterator. Blocks: never.
 * Note: copy it if you keep it. */
CFUTURES_API const char *cf_map_error_message(const cf_map_iter *iter);

/* cf_map_progress -- how far a map is, to draw a bar.
 * Counted are items that will not run any more: they ran, or were cancelled, and it does not matter
 * whether they were delivered. Of a chunk that is running those that have ended count.
 * Python: none.
 * iter: NULL: 0 of 0.
 * total: filled with how many items there are in all; 0 while a generator has not come to its end.
 *   May be NULL.
 * Returns how many have ended, never fewer than the last time.
 * Threads: one at a time for each iterator. Blocks: never.
 * Note: it looks at some hundred tasks at most, in the order of the items. What ends beyond that
 *   many which have not is counted later. */
CFUTURES_API size_t cf_map_progress(cf_map_iter *iter, size_t *total);

/* cf_map_close -- end a map, and cancel what has not started.
 * Python: close()
 * iter: taken; NULL is fine.
 * Threads: one at a time for each iterator. free_fn of undelivered results, and on_unread_error for
 *   undelivered errors, run here or in the workers. Blocks: never.
 * Note: items that are running are asked to stop (cf_task_stop_requested), and not waited for; they
 *   have their own copies of the input. */
CFUTURES_API void cf_map_close(cf_map_iter *iter);

/* cf_executor_map_array -- results[i] = fn(items[i]) for a whole array.
 * A shorter result is padded with zeros, one that is too long fails, and failed items are zeros.
 * On threads nothing is allocated per item.
 * Python: list(executor.map(fn, items))
 * executor: where; NULL: CF_INVALID.
 * fn: the task; NULL: CF_INVALID. Its `arg` is a copy of the item.
 * items: count times item_size bytes, borrowed. With item_size 0 every task gets `items` itself.
 *   NULL with next_item.
 * item_size: in bytes; 0: pass the pointer.
 * results: filled with count times result_size bytes; may be NULL where that is 0.
 * result_size: in bytes; of each result at most so many.
 * count: how many; with next_item at most so many are pulled, all before the first one runs, and
 *   results beyond the last are zeros.
 * options: NULL: all defaults. unordered and buffersize mean nothing here.
 * failed: filled with the lowest index that failed, if one did; may be NULL.
 * Returns
 *   CF_OK: all went well.
 *   CF_TASK_FAILED: the item *failed returned non-zero; without stop_on_error all others have run.
 *   CF_INVALID: its result is too long; or bad arguments, and nothing has run.
 *   CF_WORKER_LOST: the worker process died while it ran that item.
 *   CF_TIMEOUT: time was up before that item had ended.
 *   CF_NO_MEMORY: out of memory, for that item or for all.
 *   CF_CANCELLED: a shutdown kept that item from running.
 *   CF_SHUTDOWN, CF_BROKEN, CF_QUEUE_FULL, CF_SYSTEM: nothing could be submitted.
 *   CF_DEADLOCK: in a task: to wait for that item could never end.
 *   CF_FORKED: the executor belongs to the parent of this process.
 * Threads: any. In a task of the pool it takes part itself.
 * Blocks: until all have ended; on threads also at the deadline, until those that run have ended.
 *   Once it has returned, no task writes into results.
 * Note: the messages of cf_task_fail are not kept, nor are futures or on_unread_error involved. On
 *   threads items run in no particular order. */
CFUTURES_API cf_status cf_executor_map_array(cf_executor *executor, cf_task_fn *fn,
                                             const void *items, size_t item_size, void *results,
                                             size_t result_size, size_t count,
                                             const cf_map_options *options, size_t *failed);

/* Where CFUTURES_POSIX is missing, the compiler says so, if it can. */
#ifdef CFUTURES_POSIX
#define CF__DECLARED_POSIX 1
#elif defined(__has_attribute)
#if __has_attribute(error)
#define CF__POSIX_ONLY \
    __attribute__((error("type #define CFUTURES_POSIX above the first #include \"cfutures.h\"")))
extern CF__POSIX_ONLY cf_executor *cf_process_pool_new(const cf_pool_options *options,
                                                       cf_status *status);
extern CF__POSIX_ONLY cf_status cf_executor_kill_workers(cf_executor *executor, int signal);
extern CF__POSIX_ONLY void cf_process_main(int argc, char **argv);
extern CF__POSIX_ONLY int cf_as_completed_fd(cf_as_completed_iter *iter);
#endif
#endif

#ifdef __cplusplus
}
#endif

#endif /* CFUTURES_H */

/* =============================================================================================
 * IMPLEMENTATION
 * ============================================================================================= */

#if defined(CFUTURES_IMPLEMENTATION) && !defined(CFUTURES_IMPLEMENTED)
#define CFUTURES_IMPLEMENTED 1

#ifdef __cplusplus
#error "cfutures.h: define CFUTURES_IMPLEMENTATION in a C file; C++ files just include the header"
#elif !defined(__STDC_VERSION__) || __STDC_VERSION__ < 201112L
#error "cfutures.h: the implementation needs C11: compile this file with -std=c11 or later"
#endif
#ifdef __STDC_NO_ATOMICS__
#error "cfutures.h needs C11 atomics, which this compiler does not have: take gcc or clang"
#endif
#if defined(CFUTURES_POSIX) && !defined(CF__DECLARED_POSIX)
#error "cfutures.h: type #define CFUTURES_POSIX above this file's first #include of cfutures.h"
#endif
#if defined(CFUTURES_MALLOC) != defined(CFUTURES_FREE)
#error "cfutures.h: define CFUTURES_MALLOC(size) and CFUTURES_FREE(pointer), or neither"
#endif

/* ---------------------------------------------------------------------------------------------
 * platform                                                                          >>platform
 *
 * Everything that differs between systems, behind a few functions, so that no #if is needed below:
 * clock, allocation, threads, and parking. To park is to sleep on a word until it changes; it is
 * the only way in which this file blocks. Its contract is the futex's:
 *
 *   - cf__park(word, seen, deadline) returns at once unless the word holds `seen`, and may return
 *     without a reason; so every caller loops on its own condition.
 *   - who changes the word calls cf__unpark_* afterwards. The address is never read by an unpark,
 *     so the memory may be gone by then.
 *
 * Why no wake-up is lost: the check of the word and the falling asleep are one step, done by the
 * kernel (futex) or under a bucket's mutex, which every unpark takes after the change.
 * Without futex, waiters of one bucket share a condition variable and every unpark broadcasts: the
 * known lost wake-ups of glibc before 2.41 need more than one waiter and a signal.
 * --------------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_THREAD__)
#define CF__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CF__TSAN 1
#endif
#endif

#if defined(CFUTURES_PTHREADS) || defined(CFUTURES_POSIX) || defined(CF__TSAN) || \
    defined(__STDC_NO_THREADS__) || defined(__APPLE__) || defined(__FreeBSD__) || \
    defined(__OpenBSD__) || defined(__DragonFly__) || defined(__MINGW32__)
#define CF__PTHREADS 1
#elif defined(__has_include)
#if !__has_include(<threads.h>)
#define CF__PTHREADS 1
#endif
#endif

#if defined(__linux__) && !defined(CFUTURES_NO_FUTEX) && \
    !(defined(__x86_64__) && defined(__ILP32__)) && !(defined(__riscv) && __riscv_xlen == 32)
#define CF__FUTEX 1
#endif

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef CF__PTHREADS
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#else
#include <threads.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#define CF__UNIX 1
#include <pthread.h> /* pthread_atfork */
#include <unistd.h>
#endif
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif
#ifdef CFUTURES_POSIX
#define CF__HAS_PROCESSES true
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#ifdef __linux__
#include <stdio_ext.h> /* __fpending */
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#endif
#if !defined(CLOCK_MONOTONIC) || !defined(NSIG) /* -pthread shows the former alone */
#error "CFUTURES_POSIX needs POSIX names: include cfutures.h first, or give -D_DEFAULT_SOURCE"
#endif
#else
#define CF__HAS_PROCESSES false /* nor descriptors: the compiler drops what only they need */
#endif

#if defined(CF__PTHREADS) && !defined(SIG_SETMASK)
#error "POSIX threads need POSIX names: include cfutures.h first, or give -D_DEFAULT_SOURCE"
#endif
#if defined(__linux__) && !defined(__USE_MISC) /* glibc's sign that syscall can be seen */
extern long syscall(long number, ...); /* hidden by -std=c11 when another header came first */
#endif
#if defined(__linux__) && !defined(CLOCK_MONOTONIC)
#ifdef SYS_clock_gettime32             /* musl, where longs have 32 bits */
#define CF__CLOCK_GETTIME SYS_clock_gettime32
#else
#define CF__CLOCK_GETTIME SYS_clock_gettime
#endif
#endif

#ifndef CFUTURES_ASSERT
#define CFUTURES_ASSERT(condition) ((void)0)
#endif
#ifndef CFUTURES_TEST_POINT /* tests: where threads may be made to yield */
#define CFUTURES_TEST_POINT(id) ((void)0)
#endif
/* Where a race could open; the numbers stay. What has just been done / what comes next. */
enum {
    /* future */
    CF__POINT_PARK = 1,       /* the word says that somebody sleeps / asleep */
    CF__POINT_DETACH = 2,     /* the list of waiters is locked / a node is taken out */
    CF__POINT_MOVE = 8,       /* the word was read / claimed, cancelled or started */
    CF__POINT_ATTACH = 9,     /* the word was read / a node joins the list */
    CF__POINT_SETTLE = 10,    /* the cell is whole / published */
    CF__POINT_SETTLED = 11,   /* published / sleepers and waiters are told */
    CF__POINT_DELIVER = 12,   /* a group was looked at / the node is pushed */
    CF__POINT_SIGNAL = 13,    /* the node was pushed / the descriptor becomes readable */
    CF__POINT_CALLBACK = 14,  /* done / the next callback is called */
    CF__POINT_RELEASE = 15,   /* the count was read / a reference goes */
    CF__POINT_LAST = 16,      /* the last reference went / the future is recycled */
    CF__POINT_LAST_LOOK = 17, /* the count is one again / the user is told */
    CF__POINT_GIVE = 18,      /* a chain of free futures / it goes back to the heap */
    CF__POINT_CLOSE_HEAP = 19, /* nothing is handed out / what is out is counted */
    CF__POINT_TRIM = 20,      /* all seems to be back / locked, looked at again */
    /* queue */
    CF__POINT_POP = 3,        /* bottom is announced / top is read */
    CF__POINT_STEAL = 4,      /* top was read / bottom is read */
    CF__POINT_STOLEN = 21,    /* the entry was read / top moves */
    CF__POINT_PUSH = 22,      /* the entry is in its slot / bottom moves */
    CF__POINT_RING_PUSH = 23, /* entries are in the ring / tail moves */
    CF__POINT_RING_POP = 24,  /* the entry was read / head moves */
    CF__POINT_RING_GROW = 25, /* a bigger ring is there / locked, filled */
    /* run */
    CF__POINT_RUN = 26,       /* claimed / the function is called */
    CF__POINT_RAN = 27,       /* the function returned / its argument goes */
    CF__POINT_LEAVE = 28,     /* the last one is out, unlocked / whoever waits for that is told */
    CF__POINT_CANCEL = 29,    /* a visitor / claimed */
    CF__POINT_UNRUN = 30,     /* the argument is gone / counted, settled */
    /* wait */
    CF__POINT_WAIT = 31,      /* entered among those that wait / asleep */
    CF__POINT_WAITED = 32,    /* awake / out from among those that wait */
    CF__POINT_DENY = 33,      /* the waiter was found / denied, woken */
    CF__POINT_HELP = 34,      /* still pending / claimed by the waiter */
    CF__POINT_STAND_IN = 35,  /* the stand-in runs / it claims the task */
    CF__POINT_SET_ADD = 36,   /* linked into the set / attached to the future */
    CF__POINT_SET_TAKE = 37,  /* arrivals were seen / taken */
    CF__POINT_SET_CLOSE = 38, /* detached what could be / waits for nodes on their way */
    CF__POINT_COUNT = 39,     /* each future was looked at / duplicates that ended meanwhile */
    CF__POINT_SIFT = 83,      /* one is not done yet / the next one is looked at */
    CF__POINT_FD = 40,        /* the descriptor is open / arrivals are to signal it */
    /* pool */
    CF__POINT_WORK = 5,       /* a task is queued / somebody hungry is looked for */
    CF__POINT_SLEEP = 6,      /* listed as asleep, unlocked / parked */
    CF__POINT_WOKEN = 41,     /* woken / arrived */
    CF__POINT_SEARCH = 42,    /* something was seen / locked, taken */
    CF__POINT_SPUN = 43,      /* the spin is over / no spinner is announced */
    CF__POINT_REST = 44,      /* found nothing / announced as asleep, looks again */
    CF__POINT_FREE = 45,      /* announced as free / the result can be seen */
    CF__POINT_NUDGE = 46,     /* unlocked / the one that was chosen is woken */
    CF__POINT_BEGIN = 47,     /* a worker's thread runs / its initializer */
    CF__POINT_END = 48,       /* the worker has done all / it leaves */
    CF__POINT_START = 49,     /* a worker is counted / its thread is started */
    CF__POINT_STARTED = 50,   /* the thread runs, or was refused / that is made known */
    CF__POINT_DOOR = 51,      /* about to close or break / both locks */
    CF__POINT_WITHDRAW = 52,  /* out of the queue / claimed, ended */
    CF__POINT_ADMIT = 53,     /* full, unlocked / waits for space */
    CF__POINT_JOIN = 54,      /* all have left / joined */
    CF__POINT_ORPHAN = 55,    /* closed from inside / the last one out frees it */
    CF__POINT_FREE_ALL = 56,  /* joined / freed */
    /* map */
    CF__POINT_CHUNK = 57,     /* a chunk is whole / submitted */
    CF__POINT_CHUNK_LINK = 58, /* submitted / in the iterator's set */
    CF__POINT_CHUNK_GO = 59,  /* one of two owners is done / counted */
    CF__POINT_MAP_CLOSE = 60, /* all is cancelled / chunks are let go */
    CF__POINT_UNIT = 61,      /* a range was read / a unit is taken */
    CF__POINT_HALF = 62,      /* half a range was taken / it becomes one's own */
    CF__POINT_SWEPT = 63,     /* no unit is left / out */
    CF__POINT_SWEEP = 64,     /* the work seems done / the stragglers are waited for */
    /* process: host */
    CF__POINT_NAP = 7,        /* nothing to do / the manager says that it sleeps */
    CF__POINT_POLL = 65,      /* it said so and looked, unlocked / poll */
    CF__POINT_DESK = 66,      /* a slot is filled / READY */
    CF__POINT_READY = 67,     /* READY / is the worker asleep? */
    CF__POINT_TAKE_BACK = 68, /* pending / READY becomes FREE */
    CF__POINT_LOAD = 69,      /* unlocked / a big argument is copied */
    CF__POINT_OUTCOME = 70,   /* unlocked with outcomes in hand / futures end */
    CF__POINT_CALLS = 71,     /* settled / its callbacks go to the manager */
    CF__POINT_KILL = 72,      /* what has not begun is back / the order to kill */
    CF__POINT_BURY = 73,      /* a worker is dead / its tasks are looked at */
    CF__POINT_LOSE = 74,      /* the task that ran is lost, unlocked / its future ends */
    CF__POINT_PUMP = 75,      /* counted among those that look / looks */
    CF__POINT_PUMPED = 76,    /* looked for the last time / no longer counted */
    /* process: zygote and worker */
    CF__POINT_FORK = 77,      /* an order was read / fork */
    CF__POINT_UP = 78,        /* the initializer ran / the worker says so */
    CF__POINT_TAKE = 79,      /* about to / READY becomes TAKEN */
    CF__POINT_ANSWER = 80,    /* the outcome is in the slot / ENDED */
    CF__POINT_ENDED = 81,     /* ENDED / does anybody look? */
    CF__POINT_ASLEEP = 82     /* the worker says that it sleeps / looks, sleeps */
};
#ifndef CFUTURES_TEST_RECEIVED
#define CFUTURES_TEST_RECEIVED(data, size) ((void)0) /* another process has written to it */
#endif
/* tests: at every atomic access, before each release, after each acquire */
#ifndef CFUTURES_TEST_ATOMIC
#define CFUTURES_TEST_ATOMIC(word) ((void)0)
#define CFUTURES_TEST_RELEASE(word) ((void)0)
#define CFUTURES_TEST_ACQUIRE(word) ((void)0)
#endif
#ifndef CF__TEST_FUTURE /* tests: from here on the future is in somebody's hands, or free */
#define CF__TEST_FUTURE(future, in_use) ((void)0)
#endif
#ifndef CFUTURES_MALLOC
#define CFUTURES_MALLOC(size) malloc(size)
#define CFUTURES_FREE(pointer) free(pointer)
#endif

#define CF__LINE 64 /* bytes; what two threads write is kept that far apart */
#define CF__NEVER INT64_MAX

/* ---- atomics: one type, a handful of operations ---- */

/* Where the compilers' own choice is not the best: small code at -Os, fast code elsewhere. */
#ifdef __OPTIMIZE_SIZE__
#define CF__SMALL true /* what is there for speed alone is left out */
#else
#define CF__SMALL false
#endif
#if !defined(__GNUC__)
#define CF__TINY   static inline
#define CF__COLD   static
#define CF__SLOW   static
#define CF__SHARED static inline
#define CF__HOT    static inline
#else
#define CF__TINY static inline __attribute__((always_inline)) /* a call would be longer */
#define CF__SLOW static __attribute__((noinline)) /* keeps the short way of its callers short */
#ifdef __OPTIMIZE_SIZE__
#define CF__COLD   static
#define CF__SHARED static __attribute__((noinline)) /* once for all callers */
#define CF__HOT    static
#else
#define CF__COLD   static __attribute__((noinline, cold)) /* rare: kept out of its callers */
#define CF__SHARED static inline
#define CF__HOT    static inline __attribute__((always_inline)) /* each task comes by here */
#endif
#endif

#if defined(__GNUC__) /* futexes and marked pointers need more than the 2 bytes of m68k */
typedef atomic_uintptr_t cf__word __attribute__((aligned(sizeof(uintptr_t))));
#else
typedef atomic_uintptr_t cf__word;
#endif

CF__TINY uintptr_t cf__load_relaxed(cf__word *word)
{
    CFUTURES_TEST_ATOMIC(word);
    return atomic_load_explicit(word, memory_order_relaxed);
}

CF__TINY uintptr_t cf__load_acquire(cf__word *word)
{
    CFUTURES_TEST_ATOMIC(word);
    const uintptr_t value = atomic_load_explicit(word, memory_order_acquire);
    CFUTURES_TEST_ACQUIRE(word);
    return value;
}

/* Sequentially consistent loads and stores stand only in pairs of the kind "I announce, then I
 * look; you announce, then you look": deque against idle workers, owner against thief. */
CF__TINY uintptr_t cf__load_seq_cst(cf__word *word)
{
    CFUTURES_TEST_ATOMIC(word);
    const uintptr_t value = atomic_load_explicit(word, memory_order_seq_cst);
    CFUTURES_TEST_ACQUIRE(word);
    return value;
}

CF__TINY void cf__store_relaxed(cf__word *word, uintptr_t value)
{
    CFUTURES_TEST_ATOMIC(word);
    atomic_store_explicit(word, value, memory_order_relaxed);
}

CF__TINY void cf__store_release(cf__word *word, uintptr_t value)
{
    CFUTURES_TEST_ATOMIC(word);
    CFUTURES_TEST_RELEASE(word);
    atomic_store_explicit(word, value, memory_order_release);
}

CF__TINY void cf__store_seq_cst(cf__word *word, uintptr_t value)
{
    CFUTURES_TEST_ATOMIC(word);
    CFUTURES_TEST_RELEASE(word);
    atomic_store_explicit(word, value, memory_order_seq_cst);
}

CF__TINY uintptr_t cf__exchange(cf__word *word, uintptr_t value)
{
    CFUTURES_TEST_ATOMIC(word);
    CFUTURES_TEST_RELEASE(word);
    const uintptr_t old = atomic_exchange_explicit(word, value, memory_order_acq_rel);
    CFUTURES_TEST_ACQUIRE(word);
    return old;
}

CF__TINY uintptr_t cf__exchange_seq_cst(cf__word *word, uintptr_t value)
{
    CFUTURES_TEST_ATOMIC(word);
    CFUTURES_TEST_RELEASE(word);
    const uintptr_t old = atomic_exchange_explicit(word, value, memory_order_seq_cst);
    CFUTURES_TEST_ACQUIRE(word);
    return old;
}

CF__TINY uintptr_t cf__fetch_add(cf__word *word, uintptr_t value)
{
    CFUTURES_TEST_ATOMIC(word);
    CFUTURES_TEST_RELEASE(word);
    const uintptr_t old = atomic_fetch_add_explicit(word, value, memory_order_acq_rel);
    CFUTURES_TEST_ACQUIRE(word);
    return old;
}

CF__TINY uintptr_t cf__fetch_or(cf__word *word, uintptr_t value)
{
    CFUTURES_TEST_ATOMIC(word);
    CFUTURES_TEST_RELEASE(word);
    const uintptr_t old = atomic_fetch_or_explicit(word, value, memory_order_acq_rel);
    CFUTURES_TEST_ACQUIRE(word);
    return old;
}

CF__TINY bool cf__cas(cf__word *word, uintptr_t *expected, uintptr_t desired)
{
    CFUTURES_TEST_ATOMIC(word);
    CFUTURES_TEST_RELEASE(word);
    const bool done = atomic_compare_exchange_strong_explicit(
        word, expected, desired, memory_order_acq_rel, memory_order_acquire);
    CFUTURES_TEST_ACQUIRE(word);
    return done;
}

CF__TINY bool cf__cas_seq_cst(cf__word *word, uintptr_t *expected, uintptr_t desired)
{
    CFUTURES_TEST_ATOMIC(word);
    CFUTURES_TEST_RELEASE(word);
    const bool done = atomic_compare_exchange_strong_explicit(
        word, expected, desired, memory_order_seq_cst, memory_order_seq_cst);
    CFUTURES_TEST_ACQUIRE(word);
    return done;
}

/* Counters with one writer at a time: no read-modify-write is needed. */
CF__TINY void cf__bump(cf__word *word)
{
    cf__store_relaxed(word, cf__load_relaxed(word) + 1);
}

CF__TINY void cf__lower(cf__word *word)
{
    cf__store_relaxed(word, cf__load_relaxed(word) - 1);
}

static inline void cf__pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ volatile("yield");
#endif
}

static inline void cf__prefetch(const void *address)
{
#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__)
    __builtin_prefetch(address, 1);
#else
    (void)address;
#endif
}

/* The sizes that matter, without a call. All is loaded before the store, so they may overlap. */
static inline void cf__copy(void *to, const void *from, size_t size)
{
#ifndef __OPTIMIZE_SIZE__
    if (size == 8) memcpy(to, from, 8);
    else if (size == 4) memcpy(to, from, 4);
    else if (size == 16) memmove(to, from, 16);
    else
#endif
    if (size > 0) memmove(to, from, size);
}

/* ---- clock ---- */

/* Nanoseconds since some fixed point; monotonic wherever the system has such a clock. */
static int64_t cf__now(void)
{
#if defined(CLOCK_MONOTONIC)
    struct timespec now = {0, 0}; /* kept if the system refuses */
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * CF_SECOND + (int64_t)now.tv_nsec;
#elif defined(__linux__)
    long now[2] = {0, 0};
    (void)syscall(CF__CLOCK_GETTIME, 1L /* CLOCK_MONOTONIC */, now);
    return (int64_t)now[0] * CF_SECOND + (int64_t)now[1];
#else
    struct timespec now = {0, 0};
    (void)timespec_get(&now, TIME_UTC);
    return (int64_t)now.tv_sec * CF_SECOND + (int64_t)now.tv_nsec;
#endif
}

#if defined(CF__UNIX) || defined(CF__PTHREADS)
/* What a time_t of 32 bits cannot say is in 68 years: whoever wakes up then looks again. */
CF__TINY struct timespec cf__timespec(int64_t nanoseconds)
{
    int64_t seconds = nanoseconds / CF_SECOND;
    if (sizeof(time_t) < sizeof seconds && seconds > INT32_MAX) seconds = INT32_MAX;
    const struct timespec result = {(time_t)seconds, (long)(nanoseconds % CF_SECOND)};
    return result;
}
#endif

/* Absolute, saturating. Negative: never. 0 stays 0, which is always past: a poll. */
static int64_t cf__deadline(cf_duration timeout)
{
    if (timeout < 0) return CF__NEVER;
    if (timeout == 0) return 0;
    const int64_t now = cf__now();
    return timeout < CF__NEVER - now ? now + timeout : CF__NEVER;
}

CF__SLOW bool cf__has_come(int64_t time) { return time == 0 || cf__now() >= time; }

CF__HOT bool cf__is_past(int64_t deadline)
{
    return deadline != CF__NEVER && cf__has_come(deadline);
}

/* ---- parking ---- */

#ifdef CF__FUTEX

#define CF__FUTEX_WAKE (1L | 128)        /* FUTEX_WAKE, FUTEX_PRIVATE_FLAG */
#define CF__FUTEX_WAIT_UNTIL (9L | 128)  /* FUTEX_WAIT_BITSET: its timeout is a point in time */
#define CF__FUTEX_ANY (-1L)              /* FUTEX_BITSET_MATCH_ANY */

/* The half of the word that changes: futexes are 32 bits wide. */
static void *cf__futex_address(cf__word *word)
{
#if UINTPTR_MAX > 0xffffffffu && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return (void *)((uintptr_t)word + 4);
#else
    return (void *)(uintptr_t)word;
#endif
}

/* Where the system refuses futexes, it is a poll. */
CF__COLD bool cf__park_refused(int64_t deadline)
{
    const long nap[2] = {0, 1000000};
    (void)syscall(SYS_nanosleep, nap, NULL);
    return !cf__is_past(deadline);
}

/* False: the deadline has passed. */
static bool cf__park(cf__word *word, uintptr_t seen, int64_t deadline)
{
    const int64_t seconds = deadline / CF_SECOND;
    const long until[2] = {seconds > LONG_MAX ? LONG_MAX : (long)seconds,
                           (long)(deadline % CF_SECOND)};
    const int saved = errno;
    const long result = syscall(SYS_futex, cf__futex_address(word), CF__FUTEX_WAIT_UNTIL,
                                (long)(int32_t)(uint32_t)seen,
                                deadline == CF__NEVER ? NULL : until, NULL, CF__FUTEX_ANY);
    const bool in_time = result == 0 || errno == EAGAIN || errno == EINTR ||
                         (errno != ETIMEDOUT && cf__park_refused(deadline));
    errno = saved;
    return in_time;
}

CF__COLD void cf__unpark(cf__word *word, long count)
{
    const int saved = errno;
    (void)syscall(SYS_futex, cf__futex_address(word), CF__FUTEX_WAKE, count, NULL, NULL, 0L);
    errno = saved;
}

static void cf__unpark_one(cf__word *word) { cf__unpark(word, 1); }
CF__SHARED void cf__unpark_all(cf__word *word) { cf__unpark(word, INT_MAX); }
static void cf__parking_init(void) {}
#ifdef CF__UNIX
static void cf__parking_forked(void) {}
#endif

#else /* mutex and condition variable */

#define CF__BUCKETS 64 /* a power of two */

#ifdef CF__PTHREADS
typedef pthread_mutex_t cf__mutex;
typedef pthread_cond_t cf__condition;
static pthread_once_t cf__parking_once = PTHREAD_ONCE_INIT;

static bool cf__mutex_init(cf__mutex *mutex) { return pthread_mutex_init(mutex, NULL) == 0; }
static void cf__mutex_lock(cf__mutex *mutex) { (void)pthread_mutex_lock(mutex); }
static void cf__mutex_unlock(cf__mutex *mutex) { (void)pthread_mutex_unlock(mutex); }
static void cf__condition_wait(cf__condition *c, cf__mutex *m) { (void)pthread_cond_wait(c, m); }
static void cf__condition_broadcast(cf__condition *c) { (void)pthread_cond_broadcast(c); }
static void cf__run_once(void (*init)(void)) { (void)pthread_once(&cf__parking_once, init); }

#ifdef __APPLE__
static bool cf__condition_init(cf__condition *c) { return pthread_cond_init(c, NULL) == 0; }

static void cf__condition_wait_until(cf__condition *c, cf__mutex *m, int64_t deadline)
{
    const int64_t left = deadline - cf__now();
    if (left <= 0) return;
    const struct timespec wait = cf__timespec(left);
    (void)pthread_cond_timedwait_relative_np(c, m, &wait);
}
#else
static bool cf__condition_init(cf__condition *c)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0) return false;
    const bool done = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 &&
                      pthread_cond_init(c, &attributes) == 0;
    (void)pthread_condattr_destroy(&attributes);
    return done;
}

static void cf__condition_wait_until(cf__condition *c, cf__mutex *m, int64_t deadline)
{
    const struct timespec until = cf__timespec(deadline);
    (void)pthread_cond_timedwait(c, m, &until);
}
#endif
#else
typedef mtx_t cf__mutex;
typedef cnd_t cf__condition;
static once_flag cf__parking_once = ONCE_FLAG_INIT;

static bool cf__mutex_init(cf__mutex *mutex) { return mtx_init(mutex, mtx_plain) == thrd_success; }
static void cf__mutex_lock(cf__mutex *mutex) { (void)mtx_lock(mutex); }
static void cf__mutex_unlock(cf__mutex *mutex) { (void)mtx_unlock(mutex); }
static bool cf__condition_init(cf__condition *c) { return cnd_init(c) == thrd_success; }
static void cf__condition_wait(cf__condition *c, cf__mutex *m) { (void)cnd_wait(c, m); }
static void cf__condition_broadcast(cf__condition *c) { (void)cnd_broadcast(c); }
static void cf__run_once(void (*init)(void)) { call_once(&cf__parking_once, init); }

/* cnd_timedwait takes wall-clock time: short slices bound what a clock change can do. */
static void cf__condition_wait_until(cf__condition *c, cf__mutex *m, int64_t deadline)
{
    int64_t left = deadline - cf__now();
    if (left <= 0) return;
    if (left > CF_SECOND / 4) left = CF_SECOND / 4;
    struct timespec until;
    (void)timespec_get(&until, TIME_UTC);
    const int64_t nanoseconds = (int64_t)until.tv_nsec + left;
    until.tv_sec += (time_t)(nanoseconds / CF_SECOND);
    until.tv_nsec = (long)(nanoseconds % CF_SECOND);
    (void)cnd_timedwait(c, m, &until);
}
#endif

static struct cf__bucket {
    cf__mutex     mutex;
    cf__condition changed; /* W, R: mutex. Broadcast after a word of this bucket has changed. */
} cf__buckets[CF__BUCKETS];
static bool cf__buckets_ready; /* frozen by the once; false: the system refused, we poll instead */

static void cf__buckets_init(void)
{
    for (size_t i = 0; i < CF__BUCKETS; i++)
        if (!cf__mutex_init(&cf__buckets[i].mutex) || !cf__condition_init(&cf__buckets[i].changed))
            return;
    cf__buckets_ready = true;
}

static void cf__parking_init(void) { cf__run_once(cf__buckets_init); }

#ifdef CF__UNIX
/* In the child of a fork nobody will ever unlock what other threads had locked: all anew. */
static void cf__parking_forked(void)
{
    if (cf__buckets_ready) cf__buckets_init();
}
#endif

static struct cf__bucket *cf__bucket_of(cf__word *word)
{
    cf__parking_init();
    const uintptr_t hash = ((uintptr_t)word >> 4) * (uintptr_t)2654435769u;
    return cf__buckets_ready ? &cf__buckets[(hash >> 16) % CF__BUCKETS] : NULL;
}

static void cf__nap(void)
{
    const struct timespec nap = {0, 1000000};
#ifdef CF__PTHREADS
    (void)nanosleep(&nap, NULL);
#else
    (void)thrd_sleep(&nap, NULL);
#endif
}

static bool cf__park(cf__word *word, uintptr_t seen, int64_t deadline)
{
    const int saved = errno;
    struct cf__bucket *const bucket = cf__bucket_of(word);
    const bool in_time = !cf__is_past(deadline);
    if (bucket == NULL) {
        cf__nap();
    } else if (in_time) {
        cf__mutex_lock(&bucket->mutex);
        if (cf__load_acquire(word) != seen) (void)0;
        else if (deadline == CF__NEVER) cf__condition_wait(&bucket->changed, &bucket->mutex);
        else cf__condition_wait_until(&bucket->changed, &bucket->mutex, deadline);
        cf__mutex_unlock(&bucket->mutex);
    }
    errno = saved;
    return in_time;
}

static void cf__unpark_all(cf__word *word)
{
    struct cf__bucket *const bucket = cf__bucket_of(word);
    if (bucket == NULL) return;
    cf__mutex_lock(&bucket->mutex);
    cf__condition_broadcast(&bucket->changed);
    cf__mutex_unlock(&bucket->mutex);
}

static void cf__unpark_one(cf__word *word) { cf__unpark_all(word); } /* the bucket is shared */

#endif

/* ---- lock: in the low bits of a word, whose other bits are a value that its holder may change
 * with the unlock. Unfair, never held over user code. What ends the wait: the holder's unlock, a
 * few instructions or one allocation away. ---- */

#define CF__HELD    ((uintptr_t)1)
#define CF__AWAITED ((uintptr_t)2) /* held, and somebody may sleep */
#define CF__PAYLOAD (~(uintptr_t)3)

CF__COLD uintptr_t cf__lock_slow(cf__word *lock)
{
    for (int i = 0;; i++) {
        uintptr_t seen = cf__load_relaxed(lock);
        if ((seen & ~CF__PAYLOAD) == 0) { /* who has slept cannot know whether others do */
            if (cf__cas(lock, &seen, seen | (i < 30 ? CF__HELD : CF__AWAITED))) return seen;
        } else if (i < 30) {
            cf__pause();
        } else if ((seen & CF__AWAITED) != 0 || cf__cas(lock, &seen, seen | CF__AWAITED)) {
            (void)cf__park(lock, seen | CF__AWAITED, CF__NEVER);
        }
    }
}

/* Returns the value. */
CF__SHARED uintptr_t cf__lock_value(cf__word *lock)
{
    uintptr_t seen = cf__load_relaxed(lock) & CF__PAYLOAD;
    return cf__cas(lock, &seen, seen | CF__HELD) ? seen : cf__lock_slow(lock);
}

CF__SHARED void cf__unlock_value(cf__word *lock, uintptr_t value)
{
    if ((cf__exchange_seq_cst(lock, value) & CF__AWAITED) != 0) cf__unpark_one(lock);
}

/* One without a value: nothing need be read before the compare-and-swap. */
CF__SHARED void cf__lock(cf__word *lock)
{
    uintptr_t seen = 0;
    if (!cf__cas(lock, &seen, CF__HELD)) (void)cf__lock_slow(lock);
}

static inline void cf__unlock(cf__word *lock) { cf__unlock_value(lock, 0); }

/* ---- threads ---- */

#ifdef CF__PTHREADS
typedef pthread_t cf__thread;
typedef void *cf__thread_result;
#else
typedef thrd_t cf__thread;
typedef int cf__thread_result;
#endif
typedef cf__thread_result cf__thread_fn(void *arg);

#ifdef CF__PTHREADS

#ifdef _WIN32 /* which interrupts no thread */
typedef int cf__signal_mask;
static void cf__signals_block(cf__signal_mask *old) { *old = 0; }
static void cf__signals_restore(const cf__signal_mask *old) { (void)old; }
#else
typedef sigset_t cf__signal_mask;

/* All signals but those that report a fault of the thread itself stay with the host's threads. */
static void cf__signals_block(cf__signal_mask *old)
{
    sigset_t set;
    (void)sigfillset(&set);
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) (void)sigdelset(&set, faults[i]);
    (void)pthread_sigmask(SIG_SETMASK, &set, old);
}

static void cf__signals_restore(const cf__signal_mask *old)
{
    (void)pthread_sigmask(SIG_SETMASK, old, NULL);
}
#endif

static bool cf__thread_start(cf__thread *thread, cf__thread_fn *fn, void *arg, size_t stack_size)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return false;
    bool done = stack_size == 0 || pthread_attr_setstacksize(&attributes, stack_size) == 0;
    if (done) {
        cf__signal_mask old;
        cf__signals_block(&old);
        done = pthread_create(thread, &attributes, fn, arg) == 0;
        cf__signals_restore(&old);
    }
    (void)pthread_attr_destroy(&attributes);
    return done;
}

static void cf__thread_join(cf__thread thread) { (void)pthread_join(thread, NULL); }
static void cf__thread_detach(cf__thread thread) { (void)pthread_detach(thread); }

/* Rounded up to what the system takes; 0 stays 0. False: out of range. */
static bool cf__thread_stack_fit(size_t *stack_size)
{
    if (*stack_size == 0) return true;
#ifdef PTHREAD_STACK_MIN
    if (*stack_size < (size_t)PTHREAD_STACK_MIN) *stack_size = (size_t)PTHREAD_STACK_MIN;
#endif
    if (*stack_size > SIZE_MAX / 4) return false;
    *stack_size = (*stack_size + 0xffff) & ~(size_t)0xffff; /* whole pages of any size */
    return true;
}

#else

static bool cf__thread_start(cf__thread *thread, cf__thread_fn *fn, void *arg, size_t stack_size)
{
    (void)stack_size;
    return thrd_create(thread, fn, arg) == thrd_success;
}

static void cf__thread_join(cf__thread thread) { (void)thrd_join(thread, NULL); }
static void cf__thread_detach(cf__thread thread) { (void)thrd_detach(thread); }
static bool cf__thread_stack_fit(size_t *stack_size) { return *stack_size == 0; }

#endif

/* What a thread of that stack_size gets; 0: unknown. A C11 thread is a POSIX thread of the default
 * size wherever both are there. */
static size_t cf__thread_stack(size_t stack_size)
{
#if defined(CF__PTHREADS) || defined(CF__UNIX)
    pthread_attr_t attributes;
    if (stack_size != 0 || pthread_attr_init(&attributes) != 0) return stack_size;
    if (pthread_attr_getstacksize(&attributes, &stack_size) != 0) stack_size = 0;
    (void)pthread_attr_destroy(&attributes);
#endif
    return stack_size;
}

/* "<name>_<index>" as the system's tools show it: Linux keeps 15 bytes, so the name is cut. */
static void cf__thread_name(const char *name, size_t index)
{
#ifdef __linux__
    const int saved = errno;
    char text[48];
    int room = 13;
    for (size_t rest = index; rest > 9; rest /= 10) room--;
    (void)snprintf(text, sizeof text, "%.*s_%zu", room, name, index);
    (void)prctl(PR_SET_NAME, text, 0L, 0L, 0L);
    errno = saved;
#else
    (void)name, (void)index;
#endif
}

/* How deep in the stack: an address, to be compared only within one thread. */
static uintptr_t cf__stack_here(void)
{
#if defined(__GNUC__)
    return (uintptr_t)__builtin_frame_address(0);
#else
    char here;
    return (uintptr_t)&here;
#endif
}

static inline void cf__yield(void)
{
#ifdef CF__PTHREADS
    (void)sched_yield();
#else
    thrd_yield();
#endif
}

/* ---- fork: an executor belongs to the process that made it ---- */

static cf__word cf__forks; /* how often this process is the child of a fork */

/* See >>wait. They stand here since a child must not inherit what other threads held or were in. */
static cf__word cf__graph_lock, cf__count_lock, cf__detach_lock;
static struct cf__runner *cf__waiting; /* W, R: cf__graph_lock */

#ifdef CF__UNIX
static cf__word cf__forks_watched; /* the handler is registered */

static void cf__forked_child(void)
{
    cf__bump(&cf__forks);
    cf__store_relaxed(&cf__graph_lock, 0);
    cf__store_relaxed(&cf__count_lock, 0);
    cf__store_relaxed(&cf__detach_lock, 0);
    cf__waiting = NULL;
    cf__parking_forked();
}
#endif

static void cf__watch_forks(void)
{
#ifdef CF__UNIX
    if (cf__load_relaxed(&cf__forks_watched) != 0 || cf__exchange(&cf__forks_watched, 1) != 0)
        return;
    if (pthread_atfork(NULL, NULL, cf__forked_child) != 0)
        cf__store_relaxed(&cf__forks_watched, 0); /* no memory: the next executor tries again */
#endif
}

/* ---- a descriptor that is readable on demand: a timer where there is one, which an immediate
 * expiry makes readable and a new deadline unreadable; else a pipe, and a thread for a deadline.
 * ---- */

typedef struct cf__signal {
    int fd;     /* -1: none */
    int writer; /* a pipe's other end */
    uintptr_t forks; /* cf__forks when it was opened: a child would set its parent's, and in a
                        child there is no thread of it */
#if defined(CFUTURES_POSIX) && !defined(__linux__)
    bool       timed;    /* the thread runs: it writes a byte at the deadline, unless it is over */
    cf__word   over;
    int64_t    deadline;
    cf__thread timer;
#endif
} cf__signal;

/* By the child of a fork, from the process that has opened it. */
static inline bool cf__signal_is_inherited(const cf__signal *signal)
{
    return signal->forks != cf__load_relaxed(&cf__forks);
}

#ifdef CFUTURES_POSIX

/* Never 0 to 2, which belong to the host's stdio even if they are closed. */
static int cf__fd_high(int fd)
{
    if (fd < 0 || fd > 2) return fd;
    const int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    (void)close(fd);
    return high;
}

#ifdef __linux__

static bool cf__signal_open(cf__signal *signal)
{
    const int saved = errno;
    signal->fd = cf__fd_high(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    signal->forks = cf__load_relaxed(&cf__forks);
    errno = saved;
    return signal->fd >= 0;
}

/* Readable now, or from the deadline on. False: somebody has closed the descriptor. */
static bool cf__signal_set(const cf__signal *signal, int64_t deadline, bool ready)
{
    if (cf__signal_is_inherited(signal)) return true;
    struct itimerspec timer;
    memset(&timer, 0, sizeof timer);
    if (ready || deadline == 0) {
        timer.it_value.tv_nsec = 1; /* absolute, and past: at once */
    } else if (deadline != CF__NEVER) {
        timer.it_value = cf__timespec(deadline);
    }
    const int saved = errno;
    const bool done = timerfd_settime(signal->fd, TFD_TIMER_ABSTIME, &timer, NULL) == 0;
    errno = saved;
    return done;
}

/* Nothing else is needed for the deadline. */
static bool cf__signal_time(cf__signal *signal, int64_t deadline)
{
    return (void)signal, (void)deadline, true;
}

static void cf__signal_untime(cf__signal *signal) { (void)signal; }

#else

static bool cf__signal_open(cf__signal *signal)
{
    const int saved = errno;
    int ends[2] = {-1, -1};
    if (pipe(ends) == 0) {
        for (int i = 0; i < 2; i++) {
            ends[i] = cf__fd_high(ends[i]);
            (void)fcntl(ends[i], F_SETFD, FD_CLOEXEC);
            (void)fcntl(ends[i], F_SETFL, O_NONBLOCK);
        }
        for (int i = 0; i < 2; i++) /* half a pipe is none */
            if (ends[i] < 0 && ends[1 - i] >= 0) (void)close(ends[1 - i]), ends[1 - i] = -1;
    }
    signal->fd = ends[0];
    signal->writer = ends[1];
    signal->forks = cf__load_relaxed(&cf__forks);
    errno = saved;
    return signal->fd >= 0;
}

/* Readable now. False: somebody has closed the descriptors. */
static bool cf__signal_set(const cf__signal *signal, int64_t deadline, bool ready)
{
    if (cf__signal_is_inherited(signal)) return true;
    const int saved = errno;
    char bytes[16];
    while (read(signal->fd, bytes, sizeof bytes) > 0) {}
    bool done = fcntl(signal->fd, F_GETFD) >= 0;
    /* Were it closed, this would raise SIGPIPE. */
    if (done && (ready || (deadline != CF__NEVER && cf__now() >= deadline)))
        done = write(signal->writer, "", 1) > 0 || errno == EAGAIN; /* a full pipe is readable */
    errno = saved;
    return done;
}

/* What ends the wait: the deadline, or the end of the signal. */
static cf__thread_result cf__signal_main(void *arg)
{
    cf__signal *const signal = arg;
    while (cf__load_acquire(&signal->over) == 0 && cf__now() < signal->deadline)
        (void)cf__park(&signal->over, 0, signal->deadline);
    if (cf__load_acquire(&signal->over) == 0 && write(signal->writer, "", 1) < 0)
        cf__store_relaxed(&signal->over, 2); /* a full pipe is readable */
    return (cf__thread_result)0;
}

/* From the deadline on it is readable, though nobody sets it. False: that cannot be had. */
static bool cf__signal_time(cf__signal *signal, int64_t deadline)
{
    cf__store_relaxed(&signal->over, 0);
    signal->deadline = deadline;
    signal->timed = deadline != CF__NEVER &&
                    cf__thread_start(&signal->timer, cf__signal_main, signal, 0);
    return signal->timed || deadline == CF__NEVER;
}

static void cf__signal_untime(cf__signal *signal)
{
    if (!signal->timed || cf__signal_is_inherited(signal)) return;
    cf__store_release(&signal->over, 1);
    cf__unpark_all(&signal->over);
    cf__thread_join(signal->timer);
}

#endif

static bool cf__signal_is_open(const cf__signal *signal) { return signal->fd >= 0; }

static void cf__signal_close(cf__signal *signal)
{
    const int saved = errno;
    cf__signal_untime(signal);
    (void)close(signal->fd);
    if (signal->writer >= 0) (void)close(signal->writer);
    errno = saved;
}

#else

static bool cf__signal_is_open(const cf__signal *signal) { return (void)signal, false; }

static bool cf__signal_set(const cf__signal *signal, int64_t deadline, bool ready)
{
    return (void)signal, (void)deadline, (void)ready, false;
}

static void cf__signal_close(cf__signal *signal) { (void)signal; }

#endif

/* ---- CPU count ---- */

#ifdef __linux__

/* The numbers that a file begins with, up to two; what is not there stays as it was. */
static int cf__read_numbers(const char *path, long long *numbers)
{
    FILE *const file = fopen(path, "re");
    if (file == NULL) return 0;
    const int count = fscanf(file, "%lld %lld", &numbers[0], &numbers[1]);
    (void)fclose(file);
    return count;
}

/* "quota period" in one file, or in two. What that leaves of `count` CPUs. */
static size_t cf__quota(const char *path, const char *period_path, size_t count)
{
    long long numbers[3] = {0, 0, 0};
    (void)cf__read_numbers(path, numbers);
    if (period_path != NULL) (void)cf__read_numbers(period_path, numbers + 1);
    if (numbers[0] <= 0 || numbers[1] <= 0) return count;
    const long long cpus = (numbers[0] - 1) / numbers[1] + 1;
    return (unsigned long long)cpus < count ? (size_t)cpus : count;
}

static size_t cf__affinity(void)
{
    unsigned char mask[1024]; /* 8192 CPUs */
    const long bytes = syscall(SYS_sched_getaffinity, 0L, sizeof mask, mask);
    size_t count = 0;
    for (long i = 0; i < bytes * 8; i++) count += (size_t)mask[i / 8] >> i % 8 & 1;
    return count > 0 ? count : 1;
}

/* cgroup v1: the quota of our container. v2: the smallest from our group, which "0::" stands
 * before, up to the root. */
static size_t cf__cpus(void)
{
    char path[512], *const group = path + 14, *const line = group - 3;
    size_t count = cf__quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                             "/sys/fs/cgroup/cpu/cpu.cfs_period_us", cf__affinity());
    FILE *const file = fopen("/proc/self/cgroup", "re");
    if (file == NULL) return count;
    while (fgets(line, 400, file) != NULL) {
        if (strncmp(line, "0::", 3) != 0) continue;
        memcpy(path, "/sys/fs/cgroup", 14);
        char *end = strchr(group, '\n');
        for (; end != NULL && end >= group; end = strrchr(path, '/')) {
            memcpy(end, "/cpu.max", 9);
            count = cf__quota(path, NULL, count);
            *end = '\0';
        }
    }
    (void)fclose(file);
    return count;
}

#else

static size_t cf__cpus(void)
{
#ifdef _SC_NPROCESSORS_ONLN
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (size_t)count : 1;
#else
    return 1;
#endif
}

#endif

CFUTURES_API size_t cf_cpu_count(void)
{
    const int saved = errno;
    const size_t count = cf__cpus();
    errno = saved;
    return count;
}

/* ---------------------------------------------------------------------------------------------
 * memory                                                                              >>memory
 *
 * Allocation with the library's two promises: errno is left alone, and sizes do not wrap. What
 * needs more than malloc's alignment keeps malloc's own pointer just before itself.
 * --------------------------------------------------------------------------------------------- */

static void *cf__alloc(size_t size)
{
    const int saved = errno;
    void *const memory = size <= PTRDIFF_MAX ? CFUTURES_MALLOC(size > 0 ? size : 1) : NULL;
    errno = saved;
    return memory;
}

static void cf__free(void *memory)
{
    if (memory == NULL) return;
    const int saved = errno;
    CFUTURES_FREE(memory);
    errno = saved;
}

/* head + count * size bytes; SIZE_MAX, which no allocation takes, where that does not fit. */
CF__SHARED size_t cf__size(size_t head, size_t count, size_t size)
{
    const bool fits = head <= PTRDIFF_MAX && (size == 0 || count <= (PTRDIFF_MAX - head) / size);
    return fits ? head + count * size : SIZE_MAX;
}

static void *cf__copy_of(const void *data, size_t size)
{
    void *const copy = cf__alloc(size);
    if (copy != NULL) memcpy(copy, data, size);
    return copy;
}

/* On cache lines of its own. */
static void *cf__alloc_lines(size_t size)
{
    char *const memory = cf__alloc(cf__size(CF__LINE + sizeof(void *), size, 1));
    if (memory == NULL) return NULL;
    const uintptr_t start = (uintptr_t)memory + sizeof(void *);
    char *const aligned = memory + sizeof(void *) + (CF__LINE - start % CF__LINE) % CF__LINE;
    void *const origin = memory;
    memcpy(aligned - sizeof(void *), &origin, sizeof origin);
    return aligned;
}

static void cf__free_lines(void *memory)
{
    if (memory == NULL) return;
    void *origin;
    memcpy(&origin, (char *)memory - sizeof(void *), sizeof origin);
    cf__free(origin);
}

/* ---------------------------------------------------------------------------------------------
 * future                                                                              >>future
 *
 * A future is the task, its queue entry and its result in one object of 96 bytes (on 64-bit
 * machines). Its `cell` holds the call first and the outcome afterwards; up to 32 bytes of argument
 * or result live inside it.
 *
 * One word says everything that other threads may ask:
 *
 *     bits 0-1  PENDING -> RUNNING -> DONE, or PENDING -> SETTLING -> DONE (cancel, promise)
 *     bit  2    PARKED: some thread sleeps on the word
 *     bit  3    LOCKED: somebody takes a node out of the list; held for a few instructions
 *     bit  4    DROPPED: the last reference was given up before the end; it goes with the end
 *     the rest  the newest node of the list of waiters, 32-byte aligned; nothing once DONE
 *
 * Whoever moves it away from PENDING owns the cell until DONE; from then on it is frozen. The
 * compare-and-swap to DONE publishes the cell [settle] and takes the list, so each node is
 * delivered exactly once, by exactly one thread: callbacks are called, other nodes go to their
 * group.
 *
 * References: one for the user; one for each callback that waits; one for a queue entry whose task
 * somebody else has claimed or cancelled. Until it is DONE the executor keeps a future without any:
 * who gives up the last reference before that leaves it to whoever settles it, by DROPPED. So
 * running and settling a task touch no count. A promise has the user's alone. The low bits of the
 * count are marks.
 *
 * Memory: futures come from their executor's heap, in blocks, and go back to it. The heap outlives
 * the executor until its last future is released: `handed` counts what was given out (the executor
 * itself is one), `freed` twice what came back. Closing turns `freed` into minus twice what is
 * still out, plus one, so that the release which makes it one frees everything, whoever it is.
 * --------------------------------------------------------------------------------------------- */

#define CF__PENDING  ((uintptr_t)0)
#define CF__RUNNING  ((uintptr_t)1)
#define CF__SETTLING ((uintptr_t)2)
#define CF__DONE     ((uintptr_t)3)
#define CF__STATE    ((uintptr_t)3)
#define CF__PARKED   ((uintptr_t)4)
#define CF__LOCKED   ((uintptr_t)8)
#define CF__DROPPED  ((uintptr_t)16)
#define CF__NODE     (~(uintptr_t)31)

#define CF__STOP   ((uintptr_t)1) /* mark: the running task is asked to stop */
#define CF__READ   ((uintptr_t)2) /* mark: somebody looked at how it ended */
#define CF__STATIC ((uintptr_t)4) /* mark: neither counted nor freed */
#define CF__REF    ((uintptr_t)8) /* one reference */

#define CF__INLINE 32 /* bytes of argument or result inside a future */

/* traits of a cell */
#define CF__OPTIONS    1u /* `local` holds a cf_submit_options behind the first 16 bytes */
#define CF__ARG_COPY   2u /* data is the library's copy of the argument */
#define CF__MESSAGE    4u /* data is the error's own message */
#define CF__BY_CELL    8u /* free_result takes the cell, not data */
#define CF__ARG_LENT  16u /* data is the submitter's, then lies in a worker's mapping */

typedef struct cf__cell {
    void  *data; /* argument, then result or message; in a free future the next free one */
    size_t size;
    union {
        cf_task_fn *fn;
        cf_free_fn *free_result; /* NULL: nothing to free */
    } call;
    int           code;
    signed char   status; /* CF_CANCELLED until something else happens */
    unsigned char traits;
    _Alignas(max_align_t) unsigned char local[CF__INLINE];
} cf__cell;

#define CF__INLINE_WITH_OPTIONS 16 /* bytes of argument beside a cf_submit_options */
_Static_assert(sizeof(cf_submit_options) + CF__INLINE_WITH_OPTIONS <= CF__INLINE, "options fit");

typedef struct cf__heap   cf__heap;
typedef struct cf__runner cf__runner;

struct cf_future {
    cf__word  word;   /* W, R: anybody, atomically */
    cf__word  refs;   /* references and marks */
    cf__word  runner; /* W: who runs it, before the call. R: the deadlock check. A cf__runner *.
                         Once it is done, under cf__count_lock: by which count it was met last */
    cf__heap *home;   /* frozen; NULL: a promise, or static */
    cf__cell  cell;
};

/* A node in a future's list of waiters. The list owns callbacks; others belong to their group. */
typedef struct cf__waiter {
    _Alignas(32) struct cf__waiter *next; /* W, R: who owns the list it is in */
    cf_future      *future;   /* frozen while attached */
    cf_callback_fn *callback; /* NULL: deliver to the group */
    void           *user;     /* the callback's, or the cf__group * */
} cf__waiter;

/* Where the nodes of one waiting thread arrive: a stack that many push and one takes. */
typedef struct cf__group {
    cf__waiter *taken; /* consumer only: arrivals in order */
    char        apart[CF__LINE]; /* what the consumer writes from what all others do */
    cf__word    ready; /* the newest arrival, or'ed with CF__PARKED, CF__GROUP_SIGNAL */
    cf__word    signal_lock; /* guards: signal, against its closing while a node arrives */
    cf__signal  signal;
} cf__group;

#define CF__GROUP_SIGNAL ((uintptr_t)(CF__HAS_PROCESSES ? 1 : 0)) /* arrivals must be signalled */

#define CF__BLOCK_BYTES  (size_t)32768
#define CF__BLOCK_COUNT  ((CF__BLOCK_BYTES - 3 * CF__LINE) / sizeof(cf_future))
#define CF__BLOCKS_KEPT  32 /* so many, 1 MiB, may stay with an executor that has nothing to do */
#define CF__TIDY (75 * CF_MILLISECOND) /* after so long without work the others are given back */

typedef struct cf__block {
    struct cf__block *next;
    _Alignas(CF__LINE) cf_future futures[CF__BLOCK_COUNT];
} cf__block;

struct cf__heap {
    /* frozen */
    void     *whole; /* the executor, of which this is a part */
    const cf_pool_options *options;
    uintptr_t forks; /* cf__forks when it was made: another value now means another process */
    bool (*has_started)(cf_future *pending); /* NULL: its state says it */
    const cf_observer *observer; /* NULL: none. Each submit and each task looks here */
    /* free-standing */
    cf__word quiet; /* W: pool's lock, or hub's. R: anybody, as a hint: it has been idle for long */
    cf__word block_count; /* W: lock. R: anybody, as a hint */

    _Alignas(CF__LINE) cf__word tail; /* where the next task goes in the executor's ring, times
                                         CF__STEP. R: anybody. And a lock, which guards: */
    cf_future *free;    /* chained by cell.data */
    cf__block *blocks;
    cf__word   handed;    /* R: anybody, as a hint */
    bool       closed;    /* nothing is handed out any more */
    uint64_t   submitted; /* to the ring */
    uintptr_t  head_seen; /* the ring's head, or where it was once */

    _Alignas(CF__LINE) cf__word returned; /* W: anybody pushes, the lock's holder takes all */
    cf__word freed; /* odd: closed */
};

typedef enum cf__awaited {
    CF__A_FUTURE,
    CF__A_SET,     /* any of several futures: a cf__set */
    CF__A_POOL,    /* any progress of a cf_executor */
    CF__A_STAND_IN /* the thread that goes on in its name: a cf__runner */
} cf__awaited;

/* What a thread is to this library while it runs tasks: a worker, or a caller that runs a task. */
struct cf__runner {
    /* owner only */
    cf__heap  *heap;   /* whose futures it recycles; NULL: a caller */
    cf_future *spare;  /* chained by cell.data */
    size_t     spares;
    struct cf__worker *worker; /* that it is, or stands in for; NULL: a caller */
    unsigned   depth;  /* tasks on this stack, one upon the other */
    uintptr_t  stack;  /* where it began */
    size_t     stack_room;
    /* cf__graph_lock: what it waits for, while it is in the list of those that wait */
    bool        waiting, finite;
    bool        reached; /* by the walk that runs */
    cf__word    denied;  /* R: owner. It must not wait on: see cf__deny */
    cf__awaited kind;
    void       *awaited;
    cf__word   *word;    /* on which it sleeps; NULL: it joins the stand-in */
    cf__runner *next, *todo;
};

static _Thread_local cf__runner *cf__self; /* NULL: this thread runs no task of ours */

static cf_future *cf__mutable(const cf_future *future) { return (cf_future *)(uintptr_t)future; }

/* ---- heap ---- */

CF__SHARED void cf__blocks_free(cf__block *block)
{
    for (cf__block *next; block != NULL; block = next) {
        next = block->next;
        cf__free_lines(block);
    }
}

static uintptr_t cf__heap_lock(cf__heap *heap) { return cf__lock_value(&heap->tail); }
static void cf__heap_unlock(cf__heap *heap, uintptr_t tail) { cf__unlock_value(&heap->tail, tail); }

/* Under the lock. False: out of memory. */
static bool cf__heap_grow_locked(cf__heap *heap)
{
    cf__block *const block = cf__alloc_lines(sizeof *block);
    if (block == NULL) return false;
    block->next = heap->blocks;
    heap->blocks = block;
    cf__bump(&heap->block_count);
    for (size_t i = CF__BLOCK_COUNT; i-- > 0;) {
        cf_future *const future = &block->futures[i];
        future->home = heap;
        future->cell.data = heap->free;
        heap->free = future;
    }
    return true;
}

/* Under the lock. NULL: out of memory, or closed. */
static inline cf_future *cf__heap_pop_locked(cf__heap *heap)
{
    if (heap->free == NULL) {
        if (heap->closed) return NULL;
        heap->free = (cf_future *)cf__exchange(&heap->returned, 0);
        if (heap->free == NULL && !cf__heap_grow_locked(heap)) return NULL;
    }
    cf_future *const future = heap->free, *const next = future->cell.data;
    heap->free = next;
    /* A burst is released in the order of its submission: the next ones lie in a row. */
    const uintptr_t stride = (uintptr_t)next - (uintptr_t)future;
    if (next != NULL) cf__prefetch((const void *)((uintptr_t)next + 4 * stride));
    if (next != NULL) cf__prefetch(next);
    cf__bump(&heap->handed);
    return future;
}

/* Up to count free futures, chained by cell.data. */
static cf_future *cf__heap_take(cf__heap *heap, size_t count, size_t *taken)
{
    cf_future *chain = NULL, *future;
    const uintptr_t tail = cf__heap_lock(heap);
    for (*taken = 0; *taken < count && (future = cf__heap_pop_locked(heap)) != NULL; (*taken)++) {
        future->cell.data = chain;
        chain = future;
    }
    cf__heap_unlock(heap, tail);
    return chain;
}

/* The heap may be gone afterwards, with the executor. */
static void cf__heap_count(cf__heap *heap, uintptr_t change)
{
    if (cf__fetch_add(&heap->freed, change) + change != 1) return;
    cf__blocks_free(heap->blocks);
    cf__free_lines(heap->whole);
}

/* So many futures (or the executor itself) are back. */
static void cf__heap_count_back(cf__heap *heap, uintptr_t count)
{
    cf__heap_count(heap, 2 * count);
}

/* Keeps the executor's memory until cf__heap_count_back(heap, 1). */
static void cf__heap_hold(cf__heap *heap) { cf__heap_count(heap, 0 - (uintptr_t)2); }

/* The executor is closed. From now on `freed` counts up to one. */
static void cf__heap_close(cf__heap *heap)
{
    const uintptr_t tail = cf__heap_lock(heap);
    heap->closed = true;
    heap->free = NULL;
    const uintptr_t handed = cf__load_relaxed(&heap->handed);
    cf__heap_unlock(heap, tail);
    CFUTURES_TEST_POINT(CF__POINT_CLOSE_HEAP);
    cf__heap_count(heap, 2 * (1 - handed) + 1);
}

/* The chain first..last comes back. */
CF__SHARED void cf__heap_give(cf__heap *heap, cf_future *first, cf_future *last, uintptr_t count)
{
    uintptr_t top = cf__load_relaxed(&heap->returned);
    CFUTURES_TEST_POINT(CF__POINT_GIVE);
    do last->cell.data = (void *)top;
    while (!cf__cas(&heap->returned, &top, (uintptr_t)first));
    cf__heap_count_back(heap, count);
}

static bool cf__heap_is_big(cf__heap *heap)
{
    return cf__load_relaxed(&heap->block_count) > CF__BLOCKS_KEPT;
}

/* Is all back but the executor and `held` futures, and worth freeing? A hint, unless under the
 * lock. */
static bool cf__heap_is_idle(cf__heap *heap, uintptr_t held)
{
    return cf__heap_is_big(heap) &&
           cf__load_acquire(&heap->freed) == 2 * (cf__load_relaxed(&heap->handed) - 1 - held);
}

/* When all is back but the `held` futures, which nobody uses any more: give the memory of a burst
 * back to the system. True: done, and the held ones are free too, though not counted. */
CF__COLD bool cf__heap_trim(cf__heap *heap, uintptr_t held)
{
    cf__block *surplus = NULL;
    if (heap->forks != cf__load_relaxed(&cf__forks) || /* its lock may be held for ever */
        !cf__heap_is_idle(heap, held))
        return false;
    CFUTURES_TEST_POINT(CF__POINT_TRIM);
    const uintptr_t tail = cf__heap_lock(heap);
    if (cf__heap_is_idle(heap, held)) {
        surplus = heap->blocks;
        heap->blocks = NULL;
        heap->free = NULL;
        cf__store_relaxed(&heap->returned, 0);
        cf__store_relaxed(&heap->block_count, 0);
    }
    cf__heap_unlock(heap, tail);
    cf__blocks_free(surplus);
    return surplus != NULL;
}

#define CF__SPARES 64 /* a worker keeps up to that many free futures to itself */

static void cf__spares_give(cf__runner *self, size_t count)
{
    if (count == 0) return;
    cf_future *const first = self->spare, *last = first;
    for (size_t i = 1; i < count; i++) last = last->cell.data;
    self->spare = last->cell.data;
    self->spares -= count;
    cf__heap_give(self->heap, first, last, count);
}

/* By a worker of that heap. */
CF__HOT cf_future *cf__spare_take(cf__runner *self)
{
    if (self->spare == NULL) {
        self->spare = cf__heap_take(self->heap, CF__SPARES / 2, &self->spares);
        if (self->spare == NULL) return NULL;
    }
    cf_future *const future = self->spare;
    self->spare = future->cell.data;
    self->spares--;
    return future;
}

CF__SHARED cf_future *cf__future_take(cf__heap *heap)
{
    cf__runner *const self = cf__self;
    size_t taken;
    if (self == NULL || self->heap != heap) return cf__heap_take(heap, 1, &taken);
    return cf__spare_take(self);
}

CF__HOT void cf__future_recycle(cf_future *future)
{
    cf__heap *const heap = future->home;
    cf__runner *const self = cf__self;
    CF__TEST_FUTURE(future, false);
    if (heap == NULL) {
        cf__free(future);
    } else if (self != NULL && self->heap == heap) {
        future->cell.data = self->spare;
        self->spare = future;
        if (++self->spares > CF__SPARES) cf__spares_give(self, CF__SPARES / 2);
    } else if (cf__load_relaxed(&heap->quiet) != 0 && cf__heap_trim(heap, 1)) {
        cf__heap_count_back(heap, 1);
    } else {
        cf__heap_give(heap, future, future, 1);
    }
}

/* ---- cells ---- */

static inline void cf__cell_init(cf__cell *cell)
{
    cell->data = cell->local;
    cell->size = 0;
    cell->call.free_result = NULL;
    cell->code = 0;
    cell->status = CF_CANCELLED;
    cell->traits = 0;
}

static cf_submit_options cf__cell_options(const cf__cell *cell)
{
    cf_submit_options options = {NULL, 0};
    if ((cell->traits & CF__OPTIONS) != 0)
        memcpy(&options, cell->local + CF__INLINE_WITH_OPTIONS, sizeof options);
    return options;
}

CF__SLOW void cf__arg_free(const cf__cell *cell)
{
    const cf_submit_options options = cf__cell_options(cell);
    if ((cell->traits & CF__ARG_COPY) != 0) cf__free(cell->data);
    else if (options.free_arg != NULL) options.free_arg(cell->data);
}

/* The argument goes: exactly once, before the future can be seen done. */
CF__HOT void cf__cell_drop_arg(cf__cell *cell)
{
    if ((cell->traits & (CF__OPTIONS | CF__ARG_COPY)) != 0) cf__arg_free(cell);
    cell->traits = 0;
    cell->data = cell->local;
    cell->size = 0;
    cell->call.free_result = NULL;
}

/* An end without a result. The argument may be a chunk, which asks how it ended. */
static void cf__cell_fail(cf__cell *cell, cf_status status)
{
    cell->status = (signed char)status;
    cf__cell_drop_arg(cell);
}

/* Frees result or message of an ended cell. */
static void cf__cell_clear(cf__cell *cell)
{
    cf_free_fn *const free_result = cell->call.free_result;
    if (free_result == NULL) return;
    cell->call.free_result = NULL;
    free_result((cell->traits & CF__BY_CELL) != 0 ? (void *)cell : cell->data);
}

/* It ran, and returned that. */
CF__SHARED void cf__cell_end(cf__cell *cell, int code)
{
    cell->status = code == 0 ? CF_OK : CF_TASK_FAILED;
    cell->code = code;
    if (code != 0)
        (void)snprintf((char *)cell->local, sizeof cell->local, "the task returned %d", code);
}

static const char *cf__cell_message(const cf__cell *cell)
{
    if (cell->status == CF_OK) return "";
    if (cell->status == CF_TASK_FAILED || (cell->traits & CF__MESSAGE) != 0) return cell->data;
    return cf_strerror((cf_status)cell->status);
}

/* ---- static futures, for refusals when there is no executor or no memory ---- */

#define CF__STATIC_FUTURE(s) \
    {.word = CF__DONE, .refs = CF__REF | CF__STATIC, .cell = {.status = (s)}}
static cf_future cf__static_futures[] = {
    CF__STATIC_FUTURE(CF_BROKEN), CF__STATIC_FUTURE(CF_SHUTDOWN), CF__STATIC_FUTURE(CF_INVALID),
    CF__STATIC_FUTURE(CF_NO_MEMORY), CF__STATIC_FUTURE(CF_FORKED)};

static bool cf__is_static(cf_future *future)
{
    return (cf__load_relaxed(&future->refs) & CF__STATIC) != 0;
}

/* For one of those statuses. */
static cf_future *cf__static_future(cf_status status)
{
    cf_future *future = cf__static_futures;
    while (future->cell.status != (signed char)status) future++;
    return future;
}

/* ---- state, claim, settle ---- */

static uintptr_t cf__state(cf_future *future)
{
    return cf__load_acquire(&future->word) & CF__STATE;
}

static bool cf__is_done(cf_future *future) { return cf__state(future) == CF__DONE; }

/* From one state to another, whatever the other bits do meanwhile. False: it was elsewhere.
 * Acquire, since who then drops a tombstone must see the reference that came before the claim. */
static bool cf__move(cf_future *future, uintptr_t from, uintptr_t to)
{
    uintptr_t seen = cf__load_acquire(&future->word);
    CFUTURES_TEST_POINT(CF__POINT_MOVE);
    while ((seen & CF__STATE) == from)
        if (cf__cas(&future->word, &seen, (seen & ~CF__STATE) | to)) return true;
    return false;
}

/* Sleeps until the word, a future's or a group's, is no longer `seen`, after having said so in it.
 * False: the deadline has passed. */
static bool cf__park_on(cf__word *word, uintptr_t seen, int64_t deadline)
{
    const uintptr_t parked = seen | CF__PARKED;
    if (seen != parked && !cf__cas(word, &seen, parked)) return true;
    CFUTURES_TEST_POINT(CF__POINT_PARK);
    return cf__park(word, parked, deadline);
}

/* Parks until (word & mask) is at least that, or until the deadline, or the wait is denied. */
static cf_status cf__park_until(cf__runner *self, cf__word *word, uintptr_t mask, uintptr_t least,
                                int64_t deadline)
{
    for (cf_status status = CF_OK;;) {
        const uintptr_t seen = cf__load_acquire(word);
        if ((seen & mask) >= least) return CF_OK;
        if (status != CF_OK) return status;
        if (!cf__park_on(word, seen, deadline)) status = CF_TIMEOUT;
        if (self != NULL && cf__load_relaxed(&self->denied) != 0) status = CF_DEADLOCK;
    }
}

/* Under cf__detach_lock, which whoever sets LOCKED holds in the child of a fork: so it was set by a
 * thread of the parent. The list is whole: each change of it is one store. */
CF__COLD uintptr_t cf__unlock_inherited(cf_future *future)
{
    uintptr_t seen = cf__load_acquire(&future->word);
    while ((seen & CF__LOCKED) != 0 && !cf__cas(&future->word, &seen, seen & ~CF__LOCKED)) {}
    return seen & ~CF__LOCKED;
}

/* What ends the wait: the holder's few instructions. */
CF__COLD uintptr_t cf__await_unlocked(cf_future *future)
{
    if (cf__load_relaxed(&cf__forks) != 0) {
        cf__lock(&cf__detach_lock);
        const uintptr_t seen = cf__unlock_inherited(future);
        cf__unlock(&cf__detach_lock);
        return seen;
    }
    for (int spins = 0;; spins++) {
        const uintptr_t seen = cf__load_acquire(&future->word);
        if ((seen & CF__LOCKED) == 0) return seen;
        if (spins < 30) cf__pause();
        else (void)cf__park_on(&future->word, seen, CF__NEVER);
    }
}

static inline uintptr_t cf__load_unlocked(cf_future *future)
{
    const uintptr_t seen = cf__load_acquire(&future->word);
    return (seen & CF__LOCKED) == 0 ? seen : cf__await_unlocked(future);
}

/* The node reaches its group. With the push the consumer may take the node and free the group, so
 * the group is not touched afterwards; only its address is used, to unpark. */
static void cf__group_deliver(cf__waiter *node)
{
    cf__group *const group = node->user;
    uintptr_t seen = cf__load_acquire(&group->ready); /* with the signal that it tells of */
    for (;;) {
        /* In the child of a fork the lock may be held for ever, and the descriptor is not its. */
        if ((seen & CF__GROUP_SIGNAL) != 0 && !cf__signal_is_inherited(&group->signal)) break;
        node->next = (cf__waiter *)(seen & CF__NODE);
        CFUTURES_TEST_POINT(CF__POINT_DELIVER);
        if (cf__cas(&group->ready, &seen, (uintptr_t)node | (seen & CF__GROUP_SIGNAL))) {
            if ((seen & CF__PARKED) != 0) cf__unpark_all(&group->ready);
            return;
        }
    }
    /* The consumer frees the group only after it has held signal_lock once more. */
    cf__lock(&group->signal_lock);
    seen = cf__load_relaxed(&group->ready);
    do node->next = (cf__waiter *)(seen & CF__NODE);
    while (!cf__cas(&group->ready, &seen, (uintptr_t)node | CF__GROUP_SIGNAL));
    if ((seen & CF__PARKED) != 0) cf__unpark_all(&group->ready);
    CFUTURES_TEST_POINT(CF__POINT_SIGNAL);
    (void)cf__signal_set(&group->signal, 0, true);
    cf__unlock(&group->signal_lock);
}

/* To groups; returns the callbacks in order of addition. */
CF__SLOW cf__waiter *cf__deliver(cf__waiter *node)
{
    cf__waiter *callbacks = NULL;
    for (cf__waiter *next; node != NULL; node = next) {
        next = node->next;
        if (node->callback == NULL) {
            cf__group_deliver(node); /* first, so that no wait hangs on a callback */
        } else {
            node->next = callbacks;
            callbacks = node;
        }
    }
    return callbacks;
}

/* Publishes the end [settle], delivers to groups, returns the callbacks in order of addition.
 * *dropped: there are none, and the last reference is the caller's to release. */
CF__HOT cf__waiter *cf__publish(cf_future *future, bool *dropped)
{
    uintptr_t seen;
    CFUTURES_TEST_POINT(CF__POINT_SETTLE);
    do seen = cf__load_unlocked(future);
    while (!cf__cas(&future->word, &seen, CF__DONE));
    CFUTURES_TEST_POINT(CF__POINT_SETTLED);
    if ((seen & CF__PARKED) != 0) cf__unpark_all(&future->word);
    *dropped = (seen & CF__DROPPED) != 0;
    return (seen & CF__NODE) != 0 ? cf__deliver((cf__waiter *)(seen & CF__NODE)) : NULL;
}

CF__HOT cf__waiter *cf__settle(cf_future *future)
{
    bool dropped;
    cf__waiter *const callbacks = cf__publish(future, &dropped);
    if (dropped) cf_future_release(future);
    return callbacks;
}

/* Its reference goes; callbacks of promises have none: see cf__promise_complete. */
static void cf__run_callback(cf_future *future, cf__waiter *node)
{
    const bool counted = future->home != NULL;
    CFUTURES_TEST_POINT(CF__POINT_CALLBACK);
    node->callback(future, node->user);
    cf__free_lines(node);
    if (counted) cf_future_release(future);
}

static void cf__run_callbacks(cf_future *future, cf__waiter *callbacks)
{
    for (cf__waiter *next; callbacks != NULL; callbacks = next) {
        next = callbacks->next;
        cf__run_callback(future, callbacks);
    }
}

/* The node joins the list. False: the future is done, the node is still the caller's. */
static bool cf__attach(cf_future *future, cf__waiter *node)
{
    uintptr_t seen;
    do {
        seen = cf__load_unlocked(future);
        if ((seen & CF__STATE) == CF__DONE) return false;
        node->next = (cf__waiter *)(seen & CF__NODE);
        CFUTURES_TEST_POINT(CF__POINT_ATTACH);
    } while (!cf__cas(&future->word, &seen, (uintptr_t)node | (seen & ~CF__NODE)));
    return true;
}

static bool cf__detach_node(cf_future *future, cf__waiter *node)
{
    uintptr_t seen;
    do {
        seen = cf__load_unlocked(future);
        if ((seen & CF__STATE) == CF__DONE) return false;
    } while (!cf__cas(&future->word, &seen, seen | CF__LOCKED));
    CFUTURES_TEST_POINT(CF__POINT_DETACH);
    cf__waiter *head = (cf__waiter *)(seen & CF__NODE), **link = &head;
    while (*link != node) link = &(*link)->next;
    *link = node->next;
    /* Only state, PARKED and DROPPED may change under LOCKED. */
    seen = cf__load_relaxed(&future->word);
    while (!cf__cas(&future->word, &seen, (uintptr_t)head | (seen & ~(CF__NODE | CF__LOCKED)))) {}
    if ((seen & CF__PARKED) != 0) cf__unpark_all(&future->word);
    return true;
}

/* The node leaves the list. False: whoever settled the future has it, or had it. */
CF__SHARED bool cf__detach(cf_future *future, cf__waiter *node)
{
    if (cf__load_relaxed(&cf__forks) == 0) return cf__detach_node(future, node);
    cf__lock(&cf__detach_lock);
    (void)cf__unlock_inherited(future);
    const bool detached = cf__detach_node(future, node);
    cf__unlock(&cf__detach_lock);
    return detached;
}

/* ---- references ---- */

static bool cf__is_promise(cf_future *future)
{
    return future->home == NULL && !cf__is_static(future);
}

/* The cell of a promise is ours to fill, or it is too late. */
static bool cf__promise_claim(cf_future *future)
{
    return cf__is_promise(future) && (cf__move(future, CF__PENDING, CF__SETTLING) ||
                                      cf__move(future, CF__RUNNING, CF__SETTLING));
}

CFUTURES_API cf_future *cf_future_retain(cf_future *future)
{
    if (future != NULL && !cf__is_static(future)) {
        CFUTURES_ASSERT(cf__load_relaxed(&future->refs) >= CF__REF &&
                        "cf_future_retain: somebody must hold a reference, all were released");
        (void)cf__fetch_add(&future->refs, CF__REF);
    }
    return future;
}

/* The last reference went. Whoever is called here gets a reference of its own, so that it may
 * retain the future and keep it. True: nobody did, it may be recycled. */
static bool cf__last_look(cf_future *future)
{
    cf__store_relaxed(&future->refs, CF__REF | (cf__load_relaxed(&future->refs) & CF__READ));
    CFUTURES_TEST_POINT(CF__POINT_LAST_LOOK);
    if (!cf__is_done(future)) { /* a promise that was dropped */
        (void)cf__promise_claim(future);
        cf__cell_fail(&future->cell, CF_CANCELLED);
        cf__run_callbacks(future, cf__settle(future));
    } else {
        (void)cf__fetch_or(&future->refs, CF__READ);
        future->home->options->on_unread_error(future, future->home->options->user);
    }
    return cf__fetch_add(&future->refs, 0 - CF__REF) < 2 * CF__REF;
}

/* Ended neither well nor by cancel. */
static bool cf__cell_has_failed(const cf__cell *cell) { return cell->status < CF_CANCELLED; }
static bool cf__has_failed(const cf_future *future) { return cf__cell_has_failed(&future->cell); }

/* Not of a promise. */
static bool cf__is_unread(cf_future *future)
{
    return cf__has_failed(future) && future->home->options->on_unread_error != NULL &&
           (cf__load_relaxed(&future->refs) & CF__READ) == 0;
}

/* Does the release of the last reference, once it is done, call code of the user? */
static bool cf__has_last_words(cf_future *future)
{
    cf_free_fn *const free_result = future->cell.call.free_result;
    return (free_result != NULL && free_result != cf__free) || cf__is_unread(future);
}

CFUTURES_API void cf_future_release(cf_future *future)
{
    if (future == NULL) return;
    uintptr_t refs = cf__load_acquire(&future->refs);
    if ((refs & CF__STATIC) != 0) return;
    CFUTURES_ASSERT(refs >= CF__REF && "cf_future_release: released more often than retained");
    CFUTURES_TEST_POINT(CF__POINT_RELEASE);
    for (;; refs = cf__load_acquire(&future->refs)) {
        while (refs >= 2 * CF__REF)
            if (cf__cas(&future->refs, &refs, refs - CF__REF)) return;
        /* The only holder needs no read-modify-write: nobody is left who could retain. */
        if (future->home == NULL || cf__is_done(future)) break;
        if ((cf__fetch_or(&future->word, CF__DROPPED) & CF__STATE) != CF__DONE) return;
    }
    const bool calls = future->home != NULL ? cf__is_unread(future) : !cf__is_done(future);
    if (calls && !cf__last_look(future)) return;
    CFUTURES_TEST_POINT(CF__POINT_LAST);
    cf__cell_clear(&future->cell);
    cf__future_recycle(future);
}

/* Settles a future and calls its callbacks. Whoever sees it done may release it. */
CF__HOT void cf__complete(cf_future *future)
{
    cf__waiter *const callbacks = cf__settle(future);
    if (callbacks != NULL) cf__run_callbacks(future, callbacks);
}

/* Its callbacks may release it. */
static void cf__promise_complete(cf_future *future)
{
    cf__complete(cf_future_retain(future));
    cf_future_release(future);
}

/* ---- questions ---- */

CFUTURES_API cf_state cf_future_state(const cf_future *constant)
{
    cf_future *const future = cf__mutable(constant);
    if (future == NULL) return CF_STATE_FINISHED;
    const cf__heap *const home = future->home;
    switch (cf__state(future)) {
    case CF__PENDING:
        return home != NULL && home->has_started != NULL && home->has_started(future)
                   ? CF_STATE_RUNNING : CF_STATE_PENDING;
    case CF__RUNNING: return CF_STATE_RUNNING;
    case CF__SETTLING: return cf__is_promise(future) ? CF_STATE_RUNNING : CF_STATE_PENDING;
    default: return future->cell.status == CF_CANCELLED ? CF_STATE_CANCELLED : CF_STATE_FINISHED;
    }
}

CFUTURES_API bool cf_future_cancelled(const cf_future *future)
{
    return cf_future_state(future) == CF_STATE_CANCELLED;
}

CFUTURES_API bool cf_future_running(const cf_future *future)
{
    return cf_future_state(future) == CF_STATE_RUNNING;
}

CFUTURES_API bool cf_future_done(const cf_future *future)
{
    return future == NULL || cf__is_done(cf__mutable(future));
}

/* The user looks at how it ended. Only failures need to remember it. */
static void cf__look(cf_future *future)
{
    if (future->cell.status < 0 && (cf__load_relaxed(&future->refs) & CF__READ) == 0)
        (void)cf__fetch_or(&future->refs, CF__READ);
}

CFUTURES_API size_t cf_future_result_size(const cf_future *future)
{
    return future != NULL && cf_future_done(future) && future->cell.status == CF_OK
               ? future->cell.size : 0;
}

CFUTURES_API int cf_future_error_code(const cf_future *future)
{
    if (future == NULL || !cf_future_done(future)) return 0;
    cf__look(cf__mutable(future));
    return future->cell.code;
}

CFUTURES_API const char *cf_future_error_message(const cf_future *future)
{
    if (future == NULL) return cf_strerror(CF_INVALID);
    if (!cf_future_done(future)) return "";
    cf__look(cf__mutable(future));
    return cf__cell_message(&future->cell);
}

CFUTURES_API int cf_future_repr(const cf_future *future, char *buffer, size_t size)
{
    static const char states[][10] = {"pending", "running", "cancelled"};
    const uintptr_t at = (uintptr_t)future;
    const cf_state state = cf_future_state(future);
    if (state != CF_STATE_FINISHED)
        return snprintf(buffer, size, "<Future at 0x%" PRIxPTR " state=%s>", at, states[state]);
    const cf_status status = future == NULL ? CF_INVALID : (cf_status)future->cell.status;
    if (status == CF_OK)
        return snprintf(buffer, size,
                        "<Future at 0x%" PRIxPTR " state=finished returned %zu bytes>", at,
                        future->cell.size);
    return snprintf(buffer, size, "<Future at 0x%" PRIxPTR " state=finished raised %s %d>", at,
                    cf_status_name(status), future == NULL ? 0 : future->cell.code);
}

CFUTURES_API cf_status cf_future_add_done_callback(cf_future *future, cf_callback_fn *callback,
                                                   void *user)
{
    if (future == NULL || callback == NULL) return CF_INVALID;
    if (!cf__is_done(future)) {
        cf__waiter *const node = cf__alloc_lines(sizeof *node);
        if (node == NULL) return CF_NO_MEMORY;
        node->callback = callback;
        node->user = user;
        node->future = future;
        const bool counted = future->home != NULL;
        if (counted) (void)cf_future_retain(future);
        if (cf__attach(future, node)) return CF_OK;
        cf__free_lines(node);
        if (counted) cf_future_release(future);
    }
    callback(future, user);
    return CF_OK;
}

/* ---- promises ---- */

static void cf__future_init(cf_future *future)
{
    cf__store_relaxed(&future->refs, CF__REF);
    cf__store_relaxed(&future->runner, 0);
    cf__cell_init(&future->cell);
    cf__store_relaxed(&future->word, CF__PENDING);
}

CFUTURES_API cf_future *cf_future_new(void)
{
    cf_future *const future = cf__alloc(sizeof *future);
    if (future == NULL) return NULL;
    future->home = NULL;
    cf__future_init(future);
    return future;
}

CFUTURES_API bool cf_future_set_running_or_notify_cancel(cf_future *future)
{
    return future != NULL && cf__is_promise(future) && cf__move(future, CF__PENDING, CF__RUNNING);
}

/* With a result, or with a code and perhaps a message. */
static cf_status cf__promise_end(cf_future *future, int code, const void *data, size_t size)
{
    if (future == NULL || (data == NULL && size > 0)) return CF_INVALID;
    cf__cell *const cell = &future->cell;
    cf_free_fn *const free_room = size > CF__INLINE ? cf__free : NULL;
    void *const room = free_room != NULL ? cf__alloc(size) : cell->local;
    if (room == NULL) return CF_NO_MEMORY;
    if (!cf__promise_claim(future)) {
        if (free_room != NULL) cf__free(room);
        return CF_INVALID_STATE;
    }
    cf__cell_end(cell, code);
    if (size > 0) memcpy(room, data, size);
    cell->data = room;
    cell->size = size;
    cell->call.free_result = free_room;
    cf__promise_complete(future);
    return CF_OK;
}

CFUTURES_API cf_status cf_future_set_result(cf_future *future, const void *data, size_t size)
{
    return cf__promise_end(future, 0, data, size);
}

CFUTURES_API cf_status cf_future_set_error(cf_future *future, int code, const char *message)
{
    return cf__promise_end(future, code != 0 ? code : 1, message,
                           message != NULL ? strlen(message) + 1 : 0);
}

/* ---- names ---- */

CFUTURES_API const char *cf_version(void) { return CFUTURES_VERSION_STRING; }

typedef struct cf__status_text {
    char name[17], sentence[76];
} cf__status_text;

static const cf__status_text cf__statuses[] = { /* from CF_END downwards */
    {"CF_END", "there is nothing more to come: leave the loop"},
    {"CF_OK", "it went well"},
    {"CF_TIMEOUT", "the wait ran out and the task goes on: wait again, or cancel it"},
    {"CF_CANCELLED", "it was cancelled before it started: submit it again if it is wanted"},
    {"CF_TASK_FAILED", "the task returned non-zero: see its error code and message"},
    {"CF_TASK_TIMEOUT", "the task ran for longer than its own timeout: raise that, or do less"},
    {"CF_WORKER_LOST", "the worker process died while it ran the task: see the error message"},
    {"CF_BROKEN", "the pool is broken: see why its workers failed, then make another"},
    {"CF_SHUTDOWN", "the executor was shut down and takes no more tasks: submit before that"},
    {"CF_QUEUE_FULL", "queue_limit tasks wait already: submit it again later"},
    {"CF_DEADLOCK", "the tasks wait in a circle, so this could never end: wait elsewhere"},
    {"CF_INVALID_STATE", "it has ended already, or an executor owns it: end promises, once"},
    {"CF_INVALID", "an argument is out of range, or NULL: could the executor be made?"},
    {"CF_NO_MEMORY", "out of memory: release futures, or set queue_limit or buffersize"},
    {"CF_SYSTEM", "the system refused a thread, process or file: see limits (ulimit -a)"},
    {"CF_FORKED", "the executor belongs to the parent process: make another in this one"},
    {"CF_?", "not a status of this library"}};
_Static_assert(sizeof cf__statuses / sizeof *cf__statuses == CF_END - CF_FORKED + 2, "all there");

CF__SHARED const cf__status_text *cf__status_of(cf_status status)
{
    const bool known = status <= CF_END && status >= CF_FORKED;
    return &cf__statuses[known ? CF_END - status : CF_END - CF_FORKED + 1];
}

CFUTURES_API const char *cf_status_name(cf_status status) { return cf__status_of(status)->name; }
CFUTURES_API const char *cf_strerror(cf_status status) { return cf__status_of(status)->sentence; }

/* ---------------------------------------------------------------------------------------------
 * task                                                                                  >>task
 *
 * A call in progress lives on the stack of the thread that runs it. What the task says about its
 * result is staged here and moved into the cell when the function has returned, because until then
 * the argument may still be read from the same bytes.
 * --------------------------------------------------------------------------------------------- */

#define CF__BIG 896 /* bytes: from there on payloads of processes have mappings of their own */

/* What begins alike stands together: fewer stores. */
struct cf_task {
    cf_executor *executor;
    cf__word    *marks;    /* of the future: CF__STOP */
    size_t       worker;
    size_t       arg_size;
    int64_t      deadline; /* CF__NEVER: none */
    size_t       room;     /* results of up to so many bytes go */
    void        *into;     /* there */
    void        *data;     /* the result so far */
    size_t       size;
    cf_free_fn  *free_data;
    cf__word    *stop;     /* NULL, or non-zero: the whole map is to stop */
    char        *message;
    /* NULL, or room for what does not fit a slot: in a worker process */
    void      *(*big_room)(size_t size, cf_free_fn **free_room);
    cf_status    refused;  /* CF_OK, CF_NO_MEMORY, or CF_INVALID: the result is too long */
    bool         confined; /* a map_array: a longer one is refused */
    /* only a share of map_array: the items that it has run, how the first ended that failed */
    size_t       ran;
    cf_status    mishap;
    int          mishap_code;
    _Alignas(max_align_t) unsigned char local[CF__INLINE];
};

CF__SHARED void cf__task_begin(cf_task *task, cf_executor *executor, cf__word *marks, size_t worker,
                               size_t arg_size)
{
    task->executor = executor;
    task->marks = marks;
    task->worker = worker;
    task->arg_size = arg_size;
    task->deadline = CF__NEVER;
    task->room = CF__INLINE;
    task->into = task->local;
    task->data = task->local;
    task->size = 0;
    task->free_data = NULL;
    task->stop = NULL;
    task->message = NULL;
    task->big_room = NULL;
    task->refused = CF_OK;
    task->confined = false;
}

/* Something else, or nothing, takes the place of the result so far. */
static inline void cf__task_stage(cf_task *task, void *data, size_t size, cf_free_fn *free_data)
{
    if (task->free_data != NULL && task->data != data) task->free_data(task->data);
    task->data = data;
    task->size = size;
    task->free_data = free_data;
}

/* Room for the result; it does not overlap the one so far, unless that lies in the task itself. */
static inline void *cf__task_room(cf_task *task, size_t size)
{
    cf_free_fn *free_room = NULL;
    void *room = task->into;
    task->refused = CF_OK;
    if (size > task->room && task->confined) {
        task->refused = CF_INVALID;
    } else if (size > task->room) {
        const bool big = CF__HAS_PROCESSES && task->big_room != NULL && size > CF__BIG;
        free_room = cf__free;
        room = big ? task->big_room(size, &free_room) : cf__alloc(size);
        if (room == NULL) task->refused = CF_NO_MEMORY;
    }
    if (task->refused != CF_OK) return NULL;
    cf__task_stage(task, room, size, free_room);
    return room;
}

CF__SLOW int cf__task_return_long(cf_task *task, const void *data, size_t size)
{
    void *const old = task->data; /* where data may lie */
    cf_free_fn *const free_old = task->free_data;
    task->free_data = NULL;
    void *const room = cf__task_room(task, size);
    if (room != NULL) cf__copy(room, data, size);
    if (free_old != NULL) free_old(old);
    return room == NULL;
}

CFUTURES_API int cf_task_return(cf_task *task, const void *data, size_t size)
{
    CFUTURES_ASSERT(task != NULL && "cf_task_return: for a task, with its own cf_task");
    CFUTURES_ASSERT((data != NULL || size == 0) && "cf_task_return: NULL has size 0");
    if (size > task->room || task->free_data != NULL) return cf__task_return_long(task, data, size);
    void *const into = task->into;
    task->data = into;
    task->size = size;
    task->refused = CF_OK;
    cf__copy(into, data, size);
    return 0;
}

CFUTURES_API void *cf_task_result_buffer(cf_task *task, size_t size)
{
    CFUTURES_ASSERT(task != NULL && "cf_task_result_buffer: for a task, with its own cf_task");
    return cf__task_room(task, size);
}

CFUTURES_API int cf_task_return_owned(cf_task *task, void *data, size_t size, cf_free_fn *free_fn)
{
    CFUTURES_ASSERT(task != NULL && "cf_task_return_owned: for a task, with its own cf_task");
    if (task->confined || data == NULL) {
        const int refused = cf_task_return(task, data, data != NULL ? size : 0);
        if (free_fn != NULL) free_fn(data);
        return refused;
    }
    task->refused = CF_OK;
    cf__task_stage(task, data, size, free_fn);
    return 0;
}

CFUTURES_API int cf_task_fail(cf_task *task, int code, const char *format, ...)
{
    CFUTURES_ASSERT(task != NULL && "cf_task_fail: for a task, with its own cf_task");
    char text[1024];
    va_list arguments;
    text[0] = '\0';
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    cf__free(task->message);
    task->message = cf__copy_of(text, strlen(text) + 1);
    return code != 0 ? code : 1;
}

CFUTURES_API size_t cf_task_arg_size(const cf_task *task) { return task->arg_size; }
CFUTURES_API size_t cf_task_worker(const cf_task *task) { return task->worker; }
CFUTURES_API cf_executor *cf_task_executor(cf_task *task) { return task->executor; }

CFUTURES_API bool cf_task_stop_requested(const cf_task *task)
{
    return (cf__load_relaxed(task->marks) & CF__STOP) != 0 ||
           (task->stop != NULL && cf__load_relaxed(task->stop) != 0) ||
           cf__is_past(task->deadline);
}

CF__COLD void cf__task_failed(cf_task *task, int code, cf__cell *cell)
{
    cf__task_stage(task, NULL, 0, NULL);
    if (task->refused != CF_OK) {
        cell->status = (signed char)task->refused;
        cf__free(task->message);
        return;
    }
    cf__cell_end(cell, code);
    if (task->message == NULL) return;
    cell->data = task->message;
    cell->call.free_result = cf__free;
    cell->traits = CF__MESSAGE;
}

/* What the function returned and staged becomes the cell's outcome; its argument is gone. */
CF__HOT void cf__task_finish(cf_task *task, int code, cf__cell *cell)
{
    if (cf__is_past(task->deadline)) task->refused = CF_TASK_TIMEOUT;
    if (code != 0 || task->refused != CF_OK) {
        cf__task_failed(task, code, cell);
        return;
    }
    cell->status = CF_OK;
    cell->size = task->size;
    if (task->data == task->local) {
        memcpy(cell->local, task->local, CF__INLINE); /* a fixed size beats a small one */
    } else {
        cell->data = task->data;
        cell->call.free_result = task->free_data;
    }
    if (task->message != NULL) cf__free(task->message);
}

/* ---------------------------------------------------------------------------------------------
 * queue                                                                                >>queue
 *
 * Where tasks wait. Outside submitters put theirs into the executor's ring, first in, first out.
 * They share one lock, which is in the word of the ring's tail, and workers another, so that a
 * submitter in full swing does not fight for a cache line with each worker that takes something
 * out. Where the ring is empty and a worker spins for work, the submitter hands it the task without
 * the ring. What a task submits goes to the deque of its worker, without a lock: the owner works at
 * the bottom, thieves take from the top. Workers move tasks of the ring in small batches to their
 * deque while tasks are very short; those, below `batch_end`, the owner takes from the top too, so
 * that their order stays the order of submission.
 *
 * The deque is that of Chase and Lev (2005), bounded, with the orders on the operations instead of
 * fences: owner and thief each announce (bottom, top) and then look (top, bottom), both
 * sequentially consistent, so that at least one of them sees the other when a single entry is left.
 *
 * An entry may be a tombstone: its task was cancelled, or claimed by a waiter. Whoever takes it out
 * only drops its reference.
 * --------------------------------------------------------------------------------------------- */

#define CF__DEQUE 256 /* entries; a power of two */
#define CF__BATCH 32  /* tasks moved from ring to deque at once */

/* What a process pool does in its own way; see section process. */
typedef struct cf__hub cf__hub;
typedef struct cf__processes {
    bool (*accepts)(cf_executor *executor, cf_task_fn *fn, const void *arg);
    cf_status (*submit)(cf_executor *executor, cf_future **futures, size_t count);
    cf_future *(*take)(cf_executor *executor); /* the next task not started, or a tombstone */
    bool (*claim)(cf_executor *executor, cf_future *future); /* from PENDING to SETTLING */
    void (*spin)(cf_executor *executor, cf__word *word, uintptr_t mask, uintptr_t least);
    void (*closing)(cf_executor *executor);
    void (*join)(cf_executor *executor);
    void (*end)(cf_executor *executor);
    void (*stats)(cf_executor *executor, cf_stats *out); /* under the lock */
    size_t (*progress)(cf_future *future); /* items of a chunk that its worker has run by now */
    cf_status (*map_array)(cf_executor *executor, cf_task_fn *fn, const void *items,
                           size_t item_size, void *results, size_t result_size, size_t count,
                           const cf_map_options *options, size_t *failed);
} cf__processes;

/* What a worker is doing. From FREE to BUSY only under the executor's lock, so that whoever counts
 * tasks and free workers under it counts right; or before it can be seen that it has taken what it
 * was handed. */
#define CF__BUSY    ((uintptr_t)0)
#define CF__FREE    ((uintptr_t)1) /* has no task, and will look for one before it sleeps */
#define CF__ASLEEP  ((uintptr_t)2) /* parked, in the executor's list */
#define CF__CARRIES ((uintptr_t)3) /* busy, and in hand is a task that it may yet put back */

typedef struct cf__worker {
    cf__word     state;    /* W: owner; who wakes it, under the executor's lock. R: anybody */
    cf__word     bottom;   /* W: owner. R: thieves */
    cf_executor *executor; /* frozen */
    size_t       index;
    cf__thread   thread;   /* W: who started it. R: who joins it, after it has left */
    struct cf__worker *next; /* executor's lock: in the list of those asleep */
    /* owner only */
    uintptr_t    spin;      /* nanoseconds worth spinning for work */
    int64_t      idle_from; /* when the spin began that ended in sleep; 0: it did not spin */

    _Alignas(CF__LINE) cf__word submitted; /* W: owner. R: stats */
    cf__word     started, finished, failed;
    /* owner only */
    uintptr_t    batch_end;
    bool         deferred; /* what it was handed stands in its deque: others' batches are older */
    uintptr_t    ticks;
    int64_t      pace_from; /* when it last took from the ring, */
    uintptr_t    paced;     /* and how many tasks it has run since */
    cf__runner   runner;

    _Alignas(CF__LINE) cf__word top; /* W: thieves and owner, by compare-and-swap */

    _Alignas(CF__LINE) cf__word slots[CF__DEQUE];
} cf__worker;

/* What is needed most comes first: small offsets make small instructions. */
struct cf_executor {
    cf__word    lock;      /* workers, and submitters who must wake one. Guards: */
    cf__word    head;      /* where the next task is taken, times CF__STEP. R: anybody */
    cf__worker *asleep;
    unsigned    asleep_count, waking; /* waking: unparked, not yet arrived */
    size_t      started, alive;       /* threads ever started; those that have not left */
    bool        starting, starved;    /* a thread is being started; the last could not be */
    bool        orphaned, joined;     /* closed by a worker; threads are joined */
    unsigned    visitors; /* callers inside that may touch it or run user code of it */
    unsigned    blocked;  /* of them, submitters that wait for space */

    /* frozen */
    _Alignas(CF__LINE) cf__worker **workers; /* the first `started` are there */
    const cf__processes *processes; /* NULL: this executor has threads, or none */
    size_t             max_workers; /* 0: the inline executor, always full */
    size_t             cpus;
    bool               bounded; /* one may have to wait, or to run the task oneself */
    /* free-standing */
    cf__word closing; /* W: both locks. R: anybody. CF__CLOSING, CF__BROKEN */
    cf__word hungry;  /* W: lock. Somebody sleeps, or may be started: a push must look */
    cf__word crew;    /* W: lock. Workers whose deques may be looked at: `started`, without lock */
    cf_future **ring;     /* W: both locks. R: either */
    size_t      capacity; /* W: both locks. R: either. 0, or a power of two */

    cf__word spin;    /* nanoseconds worth spinning for a result, learnt */
    cf__word dead;    /* tombstones in the queues; see cf__dead */
    /* W: lock. R: anybody, as a hint. Workers that do not sleep; those that start, or are in their
     * initializer: they are BUSY */
    cf__word awake, beginning;
    cf__word caller_started, caller_finished, caller_failed;
    cf__word left;  /* W: lock. R: anybody. Bumped when the last worker or visitor leaves */
    cf__word space; /* W: lock. R: anybody. Bumped when a bounded queue has room again */
    uint64_t cancelled, withdrawn, refused; /* lock */
    cf__word join_lock; /* guards: joined. Taken before lock. Held over joining ended threads */
    /* frozen */
    cf_pool_options    options; /* defaults applied */
    cf_observer        observer;
    char               name[16];
    size_t             stack_room;
    cf__hub           *hub;
    cf__runner        *manager; /* of a process pool: the thread that settles its futures */

    _Alignas(CF__LINE) cf__word spinner; /* W, R: anybody. A free worker spins for work, one is
                                            enough: CF__SPINS, or the task that it is handed */
    cf__word    spinning; /* W: the spinner, before it spins. R: who sees what it was handed */

    cf__heap heap; /* with all of this it outlives the executor until the last future goes */
};

#define CF__SPINNER ((uintptr_t)1) /* there is one, which is about to spin */
#define CF__SPINS   ((uintptr_t)2)

#define CF__CLOSING ((uintptr_t)1)
#define CF__BROKEN  ((uintptr_t)2)

CF__TINY bool cf__is_foreign_heap(const cf__heap *heap)
{
    return heap->forks != cf__load_relaxed(&cf__forks);
}

/* Of a future that is no promise. */
static cf_executor *cf__executor_of(const cf_future *future) { return future->home->whole; }

static const cf__processes *cf__processes_of(const cf_executor *executor)
{
    return CF__HAS_PROCESSES ? executor->processes : NULL;
}

/* The worker that this thread is, if it is one of the executor's; else NULL. */
static cf__worker *cf__self_worker(const cf_executor *executor)
{
    cf__runner *const self = cf__self;
    return self != NULL && self->heap == &executor->heap ? self->worker : NULL;
}

/* ---- deque ---- */

/* A hint, unless the owner asks. [idle] Who announced something first sees what is there. */
static size_t cf__deque_length(cf__worker *worker)
{
    const uintptr_t top = cf__load_acquire(&worker->top);
    const intptr_t length = (intptr_t)(cf__load_seq_cst(&worker->bottom) - top);
    return length > 0 ? (size_t)length : 0;
}

static cf__word *cf__deque_slot(cf__worker *worker, uintptr_t position)
{
    return &worker->slots[position % CF__DEQUE];
}

/* Owner. False: full. [idle] The store to bottom comes before the caller's load of hungry. */
CF__HOT bool cf__deque_push(cf__worker *worker, cf_future *future)
{
    const uintptr_t bottom = cf__load_relaxed(&worker->bottom);
    if (bottom - cf__load_acquire(&worker->top) >= CF__DEQUE) return false;
    cf__store_relaxed(cf__deque_slot(worker, bottom), (uintptr_t)future);
    CFUTURES_TEST_POINT(CF__POINT_PUSH);
    cf__store_seq_cst(&worker->bottom, bottom + 1);
    return true;
}

/* [stats] Counted before anybody can take it and end it. */
CF__HOT bool cf__deque_submit(cf__worker *worker, cf_future *future)
{
    cf__bump(&worker->submitted);
    if (cf__deque_push(worker, future)) return true;
    cf__lower(&worker->submitted);
    return false;
}

/* Owner, at the bottom: the youngest. */
CF__HOT cf_future *cf__deque_pop(cf__worker *worker)
{
    const uintptr_t bottom = cf__load_relaxed(&worker->bottom) - 1;
    cf__store_seq_cst(&worker->bottom, bottom);
    CFUTURES_TEST_POINT(CF__POINT_POP);
    uintptr_t top = cf__load_seq_cst(&worker->top);
    const intptr_t left = (intptr_t)(bottom - top);
    cf_future *future = (cf_future *)cf__load_relaxed(cf__deque_slot(worker, bottom));
    if (left > 0) return future;
    if (left < 0 || !cf__cas_seq_cst(&worker->top, &top, top + 1)) future = NULL; /* or a thief's */
    cf__store_relaxed(&worker->bottom, bottom + 1);
    return future;
}

/* Anybody, at the top: the oldest. NULL: empty, or somebody else was faster. */
static cf_future *cf__deque_steal(cf__worker *worker)
{
    uintptr_t top = cf__load_seq_cst(&worker->top);
    CFUTURES_TEST_POINT(CF__POINT_STEAL);
    if ((intptr_t)(cf__load_seq_cst(&worker->bottom) - top) <= 0) return NULL;
    cf_future *const future = (cf_future *)cf__load_relaxed(cf__deque_slot(worker, top));
    CFUTURES_TEST_POINT(CF__POINT_STOLEN);
    return cf__cas_seq_cst(&worker->top, &top, top + 1) ? future : NULL;
}

/* Owner. Children first, youngest first; then the batch, oldest first. */
static cf_future *cf__deque_take(cf__worker *worker)
{
    while (cf__deque_length(worker) > 0) {
        const uintptr_t bottom = cf__load_relaxed(&worker->bottom);
        cf_future *const future = (intptr_t)(bottom - worker->batch_end) > 0
                                      ? cf__deque_pop(worker) : cf__deque_steal(worker);
        if (future != NULL) return future;
    }
    return NULL;
}

/* ---- ring: its end is heap.tail, whose lock, the submitters' one, is taken before `lock` ---- */

#define CF__STEP ((uintptr_t)4) /* from one position to the next: the lock's bits are below */

/* A hint, unless under a lock: then the tail's makes it an upper bound, and lock a lower one. */
static size_t cf__ring_length(cf_executor *executor)
{
    const uintptr_t head = cf__load_acquire(&executor->head);
    const uintptr_t tail = cf__load_seq_cst(&executor->heap.tail) & CF__PAYLOAD;
    const intptr_t length = (intptr_t)(tail - head);
    return length > 0 ? (size_t)length / CF__STEP : 0;
}

static cf_future **cf__ring_slot(cf_future **ring, size_t capacity, uintptr_t position)
{
    return &ring[position / CF__STEP & (capacity - 1)];
}

/* Under the tail's lock. What a worker read before it moved the head [head] may be overwritten. */
static inline bool cf__ring_has_room(cf_executor *executor, uintptr_t tail, size_t count)
{
    cf__heap *const heap = &executor->heap;
    if ((tail - heap->head_seen) / CF__STEP + count <= executor->capacity) return true;
    heap->head_seen = cf__load_acquire(&executor->head);
    return (tail - heap->head_seen) / CF__STEP + count <= executor->capacity;
}

/* Under lock. */
static cf_future *cf__ring_pop(cf_executor *executor)
{
    const uintptr_t head = cf__load_relaxed(&executor->head);
    if (head == (cf__load_acquire(&executor->heap.tail) & CF__PAYLOAD)) return NULL;
    cf_future *const future = *cf__ring_slot(executor->ring, executor->capacity, head);
    CFUTURES_TEST_POINT(CF__POINT_RING_POP);
    cf__store_release(&executor->head, head + CF__STEP); /* [head] */
    return future;
}

/* One that is dropped before it is counted makes the word negative for a moment. */
static size_t cf__dead(cf_executor *executor)
{
    const intptr_t dead = (intptr_t)cf__load_relaxed(&executor->dead);
    return dead > 0 ? (size_t)dead : 0;
}

CF__SHARED void cf__drop_tombstone(cf_executor *executor, cf_future *future)
{
    (void)cf__fetch_add(&executor->dead, 0 - (uintptr_t)1);
    cf_future_release(future);
}

/* Under both locks: moves what is in the ring to `ring`, which may be the same, but not the
 * cancelled tasks, so that cancelling for ever does not make it grow. Releasing those calls no user
 * code. */
static void cf__ring_move(cf_executor *executor, cf_future **ring, size_t capacity, uintptr_t *tail)
{
    const uintptr_t head = cf__load_relaxed(&executor->head);
    const bool dead = cf__dead(executor) > 0; /* else no future need be touched */
    uintptr_t end = head;
    for (uintptr_t i = head; i != *tail; i += CF__STEP) {
        cf_future *const future = *cf__ring_slot(executor->ring, executor->capacity, i);
        if (dead && cf__is_done(future) && future->cell.status == CF_CANCELLED) {
            cf__drop_tombstone(executor, future);
        } else {
            *cf__ring_slot(ring, capacity, end) = future;
            end += CF__STEP;
        }
    }
    executor->ring = ring;
    executor->capacity = capacity;
    if (end == *tail) return;
    *tail = end;
    cf__store_seq_cst(&executor->heap.tail, end | CF__AWAITED); /* held still; who waits sleeps */
}

/* Under the tail's lock. Room for `count` more, in a bigger ring if this one is rather full even
 * without the cancelled tasks. False: out of memory. */
CF__COLD bool cf__ring_reserve(cf_executor *executor, uintptr_t *tail, size_t count)
{
    cf_future **const old = executor->ring;
    size_t capacity = executor->capacity > 0 ? executor->capacity : 64;
    if (cf__dead(executor) > 0) {
        cf__lock(&executor->lock);
        cf__ring_move(executor, old, executor->capacity, tail);
        cf__unlock(&executor->lock);
    }
    const size_t needed = cf__ring_length(executor) + count;
    while (capacity - capacity / 4 < needed) capacity *= 2;
    if (capacity == executor->capacity) return true;
    cf_future **const ring = cf__alloc(cf__size(0, capacity, sizeof *ring));
    if (ring == NULL) return cf__ring_has_room(executor, *tail, count);
    CFUTURES_TEST_POINT(CF__POINT_RING_GROW);
    cf__lock(&executor->lock);
    cf__ring_move(executor, ring, capacity, tail);
    cf__unlock(&executor->lock);
    cf__free((void *)old);
    return true;
}

/* Returns where the ring ends. */
static uintptr_t cf__lock_both(cf_executor *executor)
{
    const uintptr_t tail = cf__heap_lock(&executor->heap);
    cf__lock(&executor->lock);
    return tail;
}

CF__SHARED void cf__unlock_both(cf_executor *executor, uintptr_t tail)
{
    cf__unlock(&executor->lock);
    cf__heap_unlock(&executor->heap, tail);
}

/* ---- how full it is: under the lock ---- */

static size_t cf__pending(cf_executor *executor)
{
    size_t pending = cf__ring_length(executor);
    for (size_t i = 0; i < executor->started; i++)
        pending += cf__deque_length(executor->workers[i]);
    const size_t dead = cf__dead(executor);
    return dead < pending ? pending - dead : 0;
}

/* Without the one that was handed a task and may not have taken it yet [hand]. */
static size_t cf__free_workers(cf_executor *executor)
{
    const bool handed = cf__load_seq_cst(&executor->spinner) > CF__SPINS;
    const uintptr_t taker = handed ? cf__load_relaxed(&executor->spinning) : 0;
    size_t count = 0;
    for (size_t i = 0; i < executor->started; i++) {
        cf__worker *const worker = executor->workers[i];
        if (cf__load_seq_cst(&worker->state) == CF__FREE && (uintptr_t)worker != taker) count++;
    }
    return count;
}

static bool cf__may_start(cf_executor *executor)
{
    return executor->started < executor->max_workers && !executor->starting &&
           cf__load_relaxed(&executor->closing) == 0;
}

/* Do queue_limit tasks wait for which no worker is there and none can be started? */
static bool cf__is_full(cf_executor *executor)
{
    size_t room = cf__free_workers(executor) + executor->asleep_count;
    room += cf__load_relaxed(&executor->beginning);
    room += executor->options.queue_limit;
    if (!executor->starved) room += executor->max_workers - executor->started;
    return cf__pending(executor) >= room;
}

/* Lets the lock go. If one more task fits, one of the submitters that wait for that may go on. */
static void cf__unlock_space(cf_executor *executor)
{
    const bool space = executor->blocked > 0 && !cf__is_full(executor);
    if (space) cf__bump(&executor->space);
    cf__unlock(&executor->lock);
    if (space) cf__unpark_one(&executor->space);
}

/* ---------------------------------------------------------------------------------------------
 * run                                                                                    >>run
 *
 * One way for a task to run, whoever runs it: a worker, a waiter inside a task, a caller.
 * --------------------------------------------------------------------------------------------- */

/* ---- observer: hooks are told under no lock. What a task's events have in common is gathered
 * before it runs, since afterwards argument and function are gone ---- */

/* What a chunk, or a share of map_array, has of its own; see section map. */
static void cf__event_of_items(const cf__cell *cell, cf_event *event);
static bool cf__event_of_ended_items(const cf__cell *cell, const cf_task *task, cf_event *event);

static void cf__tell(const cf_event *event)
{
    const cf_observer *const observer = event->executor->heap.observer;
    cf_event_fn *const hooks[] = {observer->submitted, observer->started, observer->finished,
                                  observer->worker_started, observer->worker_ended};
    if (hooks[event->kind] != NULL) hooks[event->kind](event, observer->user);
}

/* Of the executor, and now. */
static cf_event cf__event(cf_executor *executor, cf_event_kind kind)
{
    cf_event event;
    memset(&event, 0, sizeof event);
    event.kind = kind;
    event.message = "";
    event.time = cf__now();
    event.executor = executor;
    event.worker = SIZE_MAX;
    return event;
}

/* Of a task whose cell still holds the call. */
static cf_event cf__task_event(cf_future *future, cf_event_kind kind)
{
    cf_event event = cf__event(cf__executor_of(future), kind);
    event.task = future;
    event.fn = future->cell.call.fn;
    if (kind == CF_EVENT_SUBMITTED) {
        event.arg = future->cell.data;
        event.arg_size = future->cell.size;
    }
    event.items = 1;
    cf__event_of_items(&future->cell, &event);
    return event;
}

CF__COLD void cf__tell_submitted(cf_future *future)
{
    const cf_event event = cf__task_event(future, CF_EVENT_SUBMITTED);
    cf__tell(&event);
}

/* It will never run, and its cell still holds the call. */
CF__COLD void cf__tell_unrun(cf_future *future, cf_status status)
{
    cf_event event = cf__task_event(future, CF_EVENT_FINISHED);
    event.status = status;
    event.message = cf_strerror(status);
    event.items = 0;
    cf__tell(&event);
}

/* The cell holds the outcome. */
static void cf__tell_finished(const cf__cell *cell, cf_event *event)
{
    event->status = (cf_status)cell->status;
    event->code = cell->code;
    event->message = cf__cell_message(cell);
    cf__tell(event);
}

static void cf__tell_worker(cf_executor *executor, cf_event_kind kind, size_t index)
{
    if (executor->heap.observer == NULL) return;
    cf_event event = cf__event(executor, kind);
    event.worker = index;
    cf__tell(&event);
}

static inline int cf__task_call(cf__runner *self, cf_task *task, const cf__cell *cell)
{
    self->depth++;
    CFUTURES_TEST_POINT(CF__POINT_RUN);
    const int code = cell->call.fn(task, cell->data);
    CFUTURES_TEST_POINT(CF__POINT_RAN);
    self->depth--;
    return code;
}

/* cf__execute's second half, for somebody who looks on. */
CF__COLD void cf__execute_observed(cf__runner *self, cf_task *task, cf_future *future)
{
    cf__cell *const cell = &future->cell;
    cf_event event = cf__task_event(future, CF_EVENT_STARTED);
    event.worker = task->worker;
    cf__tell(&event);
    const int code = cf__task_call(self, task, cell);
    event.kind = CF_EVENT_FINISHED;
    event.time = cf__now();
    const bool told = cf__event_of_ended_items(cell, task, &event);
    if (told) cf__tell(&event); /* while the items are there */
    cf__cell_drop_arg(cell);
    cf__task_finish(task, code, cell);
    if (!told) cf__tell_finished(cell, &event);
}

/* ---- a task ---- */

/* Runs a claimed future up to its settling; then the cell holds the outcome. */
CF__HOT void cf__execute(cf__runner *self, cf_future *future)
{
    cf__cell *const cell = &future->cell;
    cf_executor *const executor = cf__executor_of(future);
    /* A worker of another executor is a caller here, and stays that worker for its own. */
    const size_t index = self->heap == future->home ? self->worker->index : executor->max_workers;
    cf_task task;
    cf__task_begin(&task, executor, &future->refs, index, cell->size);
    if ((cell->traits & CF__OPTIONS) != 0) {
        const cf_duration timeout = cf__cell_options(cell).timeout;
        if (timeout > 0) task.deadline = cf__deadline(timeout);
    }
    cf__store_relaxed(&future->runner, (uintptr_t)self); /* a hint for the deadlock check */
    if (future->home->observer != NULL) {
        cf__execute_observed(self, &task, future);
        return;
    }
    const int code = cf__task_call(self, &task, cell);
    cf__cell_drop_arg(cell);
    cf__task_finish(&task, code, cell);
}

/* [stats] Each count before the ones that it contains; cf__stats_locked reads the other way. */
CF__TINY void cf__count_end(cf__worker *worker, const cf_future *future)
{
    cf__store_release(&worker->finished, cf__load_relaxed(&worker->finished) + 1);
    if (future->cell.status != CF_OK)
        cf__store_release(&worker->failed, cf__load_relaxed(&worker->failed) + 1);
}

static void cf__count_caller_end(cf_executor *executor, const cf_future *future)
{
    (void)cf__fetch_add(&executor->caller_finished, 1); /* [stats] */
    if (future->cell.status != CF_OK) (void)cf__fetch_add(&executor->caller_failed, 1);
}

/* A worker, or a thread that stands in for it, runs a task on top of the one that it runs. */
CF__HOT void cf__run_nested(cf__runner *self, cf__worker *worker, cf_future *future)
{
    cf__bump(&worker->started);
    cf__execute(self, future);
    cf__count_end(worker, future);
    cf__complete(future);
}

/* ---- visitors: callers that run user code for an executor, or touch it while it may be closed; a
 * shutdown waits for them as it does for workers ---- */

typedef struct cf__visit {
    cf_executor      *executor;
    struct cf__visit *outer;
} cf__visit;

static _Thread_local cf__visit *cf__visits; /* of this thread, innermost first */

static void cf__executor_free(cf_executor *executor, cf__worker *last);

/* Under the lock: nobody is inside. */
CF__TINY bool cf__is_left(const cf_executor *executor)
{
    return executor->alive == 0 && executor->visitors == 0 && !executor->starting;
}

/* Under the lock, which it lets go. Who takes the last step out of a closed executor tells. */
static void cf__leave_unlock(cf_executor *executor, cf__worker *worker)
{
    const bool last =
        cf__is_left(executor) && (cf__load_relaxed(&executor->closing) & CF__CLOSING) != 0;
    const bool orphaned = last && executor->orphaned;
    if (orphaned) executor->orphaned = false;
    if (last) cf__bump(&executor->left);
    cf__unlock(&executor->lock);
    /* From here on the executor may be gone, if somebody waits for us in close. */
    CFUTURES_TEST_POINT(CF__POINT_LEAVE);
    if (orphaned) cf__executor_free(executor, worker);
    else if (last) cf__unpark_all(&executor->left);
}

/* Under the lock. */
CF__SHARED void cf__visit_begin(cf__visit *visit, cf_executor *executor)
{
    executor->visitors++;
    visit->executor = executor;
    visit->outer = cf__visits;
    cf__visits = visit;
}

static void cf__visit_enter(cf__visit *visit, cf_executor *executor)
{
    cf__lock(&executor->lock);
    cf__visit_begin(visit, executor);
    cf__unlock(&executor->lock);
}

static void cf__visit_end(cf__visit *visit)
{
    cf_executor *const executor = visit->executor;
    cf__visits = visit->outer;
    cf__lock(&executor->lock);
    executor->visitors--;
    cf__leave_unlock(executor, NULL);
}

/* Is this thread one for which a shutdown of the executor would wait? */
static bool cf__is_inside(const cf_executor *executor)
{
    if (cf__self_worker(executor) != NULL) return true;
    for (const cf__visit *visit = cf__visits; visit != NULL; visit = visit->outer)
        if (visit->executor == executor) return true;
    return false;
}

/* Whoever submits runs the task itself; see cf__run_at_once. It is a visitor already. */
static void cf__run_here(cf__runner *self, cf_executor *executor, cf_future *future)
{
    cf__worker *const worker = cf__self_worker(executor);
    cf__store_relaxed(&future->word, CF__RUNNING);
    if (worker != NULL) cf__bump(&worker->started);
    else (void)cf__fetch_add(&executor->caller_started, 1);
    cf__execute(self, future);
    if (worker != NULL) cf__count_end(worker, future);
    else cf__count_caller_end(executor, future);
    cf__complete(future);
}

/* ---- cancel ---- */

/* It is ours to end: it never ran. */
static void cf__end_unrun(cf_executor *executor, cf_future *future, cf_status status)
{
    cf__store_relaxed(&future->runner, (uintptr_t)&cf__self); /* who settles it: this thread */
    if (future->home->observer != NULL) cf__tell_unrun(future, status);
    cf__cell_fail(&future->cell, status);
    CFUTURES_TEST_POINT(CF__POINT_UNRUN);
    cf__lock(&executor->lock);
    if (status == CF_CANCELLED) executor->cancelled++;
    else if (status == CF_SYSTEM) executor->refused++; /* if late */
    else executor->withdrawn++;
    cf__unlock_space(executor);
    cf__complete(future);
}

/* From PENDING to that state; its entry in a queue becomes a tombstone, with a reference for
 * whoever takes it out. It is counted after the claim: one too many would hide a task for which
 * somebody has to be woken. */
static bool cf__claim_entry(cf_executor *executor, cf_future *future, uintptr_t state)
{
    (void)cf_future_retain(future);
    if (!cf__move(future, CF__PENDING, state)) {
        cf_future_release(future); /* not the last: the caller has one */
        return false;
    }
    (void)cf__fetch_add(&executor->dead, 1);
    return true;
}

/* Another thread settles it: what ends the wait is the return of the task's free_arg there. */
static bool cf__await_cancelled(cf_future *future)
{
    if (cf__load_relaxed(&future->runner) == (uintptr_t)&cf__self) return true; /* from free_arg */
    if (cf__state(future) == CF__SETTLING)
        (void)cf__park_until(NULL, &future->word, CF__STATE, CF__DONE, CF__NEVER);
    return cf__is_done(future) && future->cell.status == CF_CANCELLED;
}

CFUTURES_API bool cf_future_cancel(cf_future *future)
{
    if (future == NULL) return false;
    if (cf__is_done(future)) return future->cell.status == CF_CANCELLED;
    if (future->home == NULL) {
        if (!cf__move(future, CF__PENDING, CF__SETTLING))
            return cf__state(future) != CF__RUNNING && cf__await_cancelled(future);
        cf__cell_fail(&future->cell, CF_CANCELLED);
        cf__promise_complete(future);
        return true;
    }
    cf_executor *const executor = cf__executor_of(future);
    if (cf__is_foreign_heap(&executor->heap)) return false;
    cf__visit visit;
    cf__visit_enter(&visit, executor);
    const cf__processes *const processes = cf__processes_of(executor);
    CFUTURES_TEST_POINT(CF__POINT_CANCEL);
    bool cancelled = processes != NULL ? processes->claim(executor, future)
                                       : cf__claim_entry(executor, future, CF__SETTLING);
    if (cancelled) cf__end_unrun(executor, future, CF_CANCELLED);
    else if (cf__state(future) == CF__RUNNING) (void)cf__fetch_or(&future->refs, CF__STOP);
    else cancelled = cf__await_cancelled(future);
    cf__visit_end(&visit);
    return cancelled;
}

/* ---------------------------------------------------------------------------------------------
 * wait                                                                                  >>wait
 *
 * A thread outside spins for a moment if a CPU is free, then parks on the future's word, or, for
 * several futures, on the group where their nodes arrive.
 *
 * A thread inside a task may neither block the pool that has to run what it waits for, nor wait in
 * a circle:
 *   - a pending future of its own pool is claimed and run here, on top of the waiting task. Deep
 *     down a stand-in thread runs it instead, with a fresh stack, while this one waits for the
 *     stand-in;
 *   - before it blocks without a deadline, it enters the list of waiting runners and walks from
 *     what it waits for: a running future leads to the runner that runs it, a pending one to all
 *     workers of its pool. If every runner reached waits too, and for nothing that has come
 *     meanwhile, none of them can ever go on: the last one in gets CF_DEADLOCK. A promise, a thread
 *     that does not wait, a finite deadline each end the walk: all is well.
 *
 * Locks: cf__graph_lock, then an executor's lock.
 * --------------------------------------------------------------------------------------------- */

#define CF__DEPTH 512                   /* tasks upon each other on one stack */
#define CF__STACK_ROOM ((size_t)65536)  /* for them, where nobody knows how big the stack is */
#define CF__SPIN_MOST ((uintptr_t)20000) /* nanoseconds: about what parking and waking cost */
#define CF__SPIN_LEAST ((uintptr_t)1000)
#define CF__GATHER      1500 /* nanoseconds */
#define CF__GATHER_FROM 64   /* outstanding futures */

/* A future watched through a group. */
typedef struct cf__member {
    cf__waiter         waiter; /* first: a node leads to its member */
    struct cf__member *next, *previous; /* of those not yet delivered; consumer, cf__graph_lock */
    size_t             index;
    bool               arrived; /* taken from the group */
} cf__member;

/* Several futures, delivered in the order in which they end. For one thread at a time. */
typedef struct cf__set {
    cf__member *members, *last; /* not yet delivered, in order of addition */
    size_t      count;          /* of them */
    cf__member *unclaimed;      /* from here on some may still be pending, and of that pool: */
    const cf__heap *helped;
    cf__waiter **taken_end;
    uintptr_t   forks;
    bool        foreign; /* some future cannot end in this process */
    cf__group   group;
} cf__set;

static bool cf__is_foreign(const cf_future *future)
{
    return future->home != NULL && cf__is_foreign_heap(future->home);
}

/* Made by the parent of this process. */
static bool cf__is_inherited(const cf__set *set)
{
    return set->forks != cf__load_relaxed(&cf__forks);
}

static bool cf__is_stranded(const cf__set *set) { return set->foreign || cf__is_inherited(set); }

/* ---- deadlock ---- */

static bool cf__reach(cf__runner *runner, cf__runner **todo)
{
    if (!runner->waiting || runner->finite) return false;
    if (!runner->reached) {
        runner->reached = true;
        runner->todo = *todo;
        *todo = runner;
    }
    return true;
}

/* The walk that runs has ended at a pool that starts a worker, or is about to. Afterwards nobody
 * would look again: so whoever waits does, by and by. */
static bool cf__in_transit; /* W, R: cf__graph_lock */

/* Can nothing of this pool move? */
static bool cf__reach_pool(cf_executor *executor, cf__runner **todo)
{
    if (cf__processes_of(executor) != NULL) return cf__reach(executor->manager, todo);
    cf__lock(&executor->lock);
    bool stuck = executor->started > 0 && !executor->starting &&
                 (executor->starved || !cf__may_start(executor));
    cf__in_transit = !stuck;
    for (size_t i = 0; stuck && i < executor->started; i++)
        stuck = cf__reach(&executor->workers[i]->runner, todo);
    cf__unlock(&executor->lock);
    return stuck;
}

/* The runner, if it waits. It is compared, never read, until it is found: it may be gone. */
static cf__runner *cf__find_waiting(uintptr_t wanted)
{
    cf__runner *runner = cf__waiting;
    while (runner != NULL && (uintptr_t)runner != wanted) runner = runner->next;
    return runner;
}

static bool cf__reach_future(cf_future *future, cf__runner **todo)
{
    const uintptr_t state = cf__state(future);
    if (future->home == NULL) return false;
    if (state == CF__PENDING) return cf__reach_pool(cf__executor_of(future), todo);
    if (state != CF__RUNNING) return false;
    if (cf__processes_of(cf__executor_of(future)) != NULL)
        return cf__reach_pool(cf__executor_of(future), todo);
    cf__runner *const waiting = cf__find_waiting(cf__load_relaxed(&future->runner));
    return waiting != NULL && cf__state(future) == CF__RUNNING && cf__reach(waiting, todo);
}

/* Everything that could let this runner go on waits too. */
static bool cf__is_held(cf__runner *runner, cf__runner **todo)
{
    if (runner->kind == CF__A_STAND_IN) return cf__reach(runner->awaited, todo);
    if (runner->kind == CF__A_POOL) return cf__reach_pool(runner->awaited, todo);
    if (runner->kind == CF__A_FUTURE) return cf__reach_future(runner->awaited, todo);
    cf__set *const set = runner->awaited;
    if ((cf__load_acquire(&set->group.ready) & CF__NODE) != 0) return false;
    for (cf__member *member = set->members; member != NULL; member = member->next)
        if (!cf__reach_future(member->waiter.future, todo)) return false;
    return true;
}

static bool cf__is_stuck(cf__runner *root)
{
    for (cf__runner *runner = cf__waiting; runner != NULL; runner = runner->next)
        runner->reached = false;
    cf__runner *todo = NULL;
    cf__in_transit = false;
    bool stuck = cf__reach(root, &todo);
    while (stuck && todo != NULL) {
        cf__runner *const runner = todo;
        todo = runner->todo;
        stuck = cf__is_held(runner, &todo);
    }
    return stuck;
}

static void cf__wait_end(void)
{
    cf__runner *const self = cf__self;
    if (self == NULL) return;
    CFUTURES_TEST_POINT(CF__POINT_WAITED);
    cf__lock(&cf__graph_lock);
    cf__runner **link = &cf__waiting;
    while (*link != self) link = &(*link)->next;
    *link = self->next;
    self->waiting = false;
    cf__store_relaxed(&self->denied, 0);
    cf__unlock(&cf__graph_lock);
}

/* False: it would be a deadlock, do not wait. Outside of tasks it never is. An endless wait may be
 * given a deadline, at which to begin it anew. */
static bool cf__wait_begin(cf__awaited kind, void *awaited, cf__word *word, int64_t *deadline)
{
    cf__runner *const self = cf__self;
    if (self == NULL) return true;
    cf__lock(&cf__graph_lock);
    self->waiting = true;
    self->finite = *deadline != CF__NEVER;
    self->kind = kind;
    self->awaited = awaited;
    self->word = word;
    self->next = cf__waiting;
    cf__waiting = self;
    const bool stuck = cf__is_stuck(self);
    if (cf__in_transit && !self->finite) {
        *deadline = cf__deadline(CF_MILLISECOND);
        self->finite = true;
    }
    cf__unlock(&cf__graph_lock);
    CFUTURES_TEST_POINT(CF__POINT_WAIT);
    if (stuck) cf__wait_end();
    return !stuck;
}

/* Whoever runs this future, or goes on in its name, waits for somebody who cannot let it: that wait
 * ends with CF_DEADLOCK. To be repeated until the future is done, since the waiter may be just
 * about to park. */
CF__SHARED void cf__deny(cf_future *future)
{
    cf__lock(&cf__graph_lock);
    cf__runner *runner = cf__find_waiting(cf__load_relaxed(&future->runner));
    while (runner != NULL && runner->word == NULL)
        runner = cf__find_waiting((uintptr_t)runner->awaited);
    if (runner != NULL) {
        CFUTURES_TEST_POINT(CF__POINT_DENY);
        cf__store_relaxed(&runner->denied, 1);
        cf__unpark_all(runner->word);
    }
    cf__unlock(&cf__graph_lock);
}

/* ---- blocking: until (word & mask) is at least that ---- */

/* Spins while that is likely to pay: a CPU is free, and results came soon lately. But not while a
 * worker is being started: that takes longer, and it may have been put on this very CPU. */
static void cf__spin_for(cf_executor *executor, cf__word *word, uintptr_t mask, uintptr_t least)
{
    if (cf__processes_of(executor) != NULL) {
        executor->processes->spin(executor, word, mask, least);
        return;
    }
    if (executor->cpus < 2 ||
        cf__load_relaxed(&executor->awake) >= executor->cpus + (cf__self != NULL) ||
        cf__load_relaxed(&executor->beginning) > 0)
        return;
    const int64_t end = cf__now() + (int64_t)cf__load_relaxed(&executor->spin);
    do {
        for (int i = 0; i < 8; i++) {
            if ((cf__load_acquire(word) & mask) >= least) return;
            for (int j = 0; j < 8; j++) cf__pause(); /* whoever runs it needs the cache line too */
        }
    } while (cf__now() < end);
}

/* A wait that spinning did not end took that long in all: would more of it have been worth it? */
CF__SHARED uintptr_t cf__spin_learn(uintptr_t spin, int64_t waited)
{
    spin = waited < (int64_t)CF__SPIN_MOST ? 2 * spin : spin / 2;
    return spin > CF__SPIN_MOST ? CF__SPIN_MOST : spin < CF__SPIN_LEAST ? CF__SPIN_LEAST : spin;
}

/* An arrival was waited for since then. Where many come in quick succession, lets some more come:
 * who takes each at once takes the cache lines, too, away from those who are about to deliver. */
static void cf__gather(const cf__set *set, int64_t from)
{
    if (set->count < CF__GATHER_FROM) return;
    int64_t now = cf__now();
    if (now - from > CF__GATHER) return;
    for (const int64_t end = now + CF__GATHER; now < end; now = cf__now())
        for (int i = 0; i < 8; i++) cf__pause();
}

/* For a future, or for an arrival in a set, which the end of its first future is likely to be. */
static cf_status cf__block_for(cf__awaited kind, void *awaited, int64_t deadline)
{
    cf__set *const set = kind == CF__A_SET ? awaited : NULL;
    cf_future *const future = set != NULL ? set->members->waiter.future : awaited;
    cf__word *const word = set != NULL ? &set->group.ready : &future->word;
    const uintptr_t mask = set != NULL ? CF__NODE : CF__STATE;
    const uintptr_t least = set != NULL ? 1 : CF__DONE;
    cf_executor *const executor = future->home != NULL ? cf__executor_of(future) : NULL;
    const int64_t from = executor != NULL ? cf__now() : 0;
    if (executor != NULL) cf__spin_for(executor, word, mask, least);
    if ((cf__load_acquire(word) & mask) >= least) {
        if (set != NULL && executor != NULL) cf__gather(set, from);
        return CF_OK;
    }
    cf_status status;
    int64_t until;
    do {
        until = deadline;
        if (!cf__wait_begin(kind, awaited, word, &until))
            return (cf__load_acquire(word) & mask) >= least ? CF_OK : CF_DEADLOCK;
        status = cf__park_until(cf__self, word, mask, least, until);
        cf__wait_end();
    } while (status == CF_TIMEOUT && until != deadline);
    if (executor != NULL)
        cf__store_relaxed(&executor->spin,
                          cf__spin_learn(cf__load_relaxed(&executor->spin), cf__now() - from));
    return status;
}

/* Parks while the word, one of the pool's, is `seen`; it may end without a reason. */
CF__SHARED cf_status cf__await_pool(cf_executor *executor, cf__word *word, uintptr_t seen,
                                int64_t deadline)
{
    cf__runner *const self = cf__self;
    int64_t until = deadline;
    if (!cf__wait_begin(CF__A_POOL, executor, word, &until)) return CF_DEADLOCK;
    const bool in_time = cf__park(word, seen, until) || until != deadline;
    const bool denied = self != NULL && cf__load_relaxed(&self->denied) != 0;
    cf__wait_end();
    return denied ? CF_DEADLOCK : in_time ? CF_OK : CF_TIMEOUT;
}

/* ---- one future ---- */

typedef struct cf__stand_in {
    cf__runner  runner;
    cf__visit  *visits; /* of the thread in whose name it goes on */
    cf__worker *worker; /* NULL: the future is in no queue, but to be run at once */
    cf_future  *future;
} cf__stand_in;

static bool cf__call_workers(cf_executor *executor);

/* Drops a tombstone that a worker took out. Until now it hid another task from cf__balance, which
 * whoever goes on here, or what the release calls, may wait for. `hungry` is no older than that. */
CF__COLD void cf__bury(cf_executor *executor, cf_future *future)
{
    (void)cf__fetch_add(&executor->dead, 0 - (uintptr_t)1);
    if (cf__load_relaxed(&executor->hungry) != 0) (void)cf__call_workers(executor);
    cf_future_release(future);
}

/* Runs the future unless it is out of reach by now. The entry in the queue becomes a tombstone,
 * unless it is at hand: the youngest of the own deque. */
CF__SLOW bool cf__claim_and_run(cf__runner *self, cf__worker *worker, cf_future *future)
{
    cf_executor *const executor = worker->executor;
    const uintptr_t bottom = cf__load_relaxed(&worker->bottom);
    const bool at_hand = /* or a stale entry of an empty deque: then there is nothing to pop */
        cf__load_relaxed(cf__deque_slot(worker, bottom - 1)) == (uintptr_t)future &&
        cf__deque_pop(worker) == future;
    if (at_hand) {
        if (!cf__move(future, CF__PENDING, CF__RUNNING)) {
            cf__bury(executor, future);
            return false;
        }
    } else if (!cf__claim_entry(executor, future, CF__RUNNING)) {
        return false;
    }
    if (executor->bounded) { /* one task fewer waits to start */
        cf__lock(&executor->lock);
        cf__unlock_space(executor);
    }
    cf__run_nested(self, worker, future);
    return true;
}

static cf__thread_result cf__stand_in_main(void *arg)
{
    cf__stand_in *const here = arg;
    cf__self = &here->runner;
    cf__visits = here->visits;
    here->runner.stack = cf__stack_here();
    cf_executor *const executor = cf__executor_of(here->future);
    const cf__worker *const worker = cf__self_worker(executor);
    if (worker != NULL) cf__thread_name(executor->name, worker->index);
    CFUTURES_TEST_POINT(CF__POINT_STAND_IN);
    if (here->worker != NULL) (void)cf__claim_and_run(&here->runner, here->worker, here->future);
    else cf__run_here(&here->runner, executor, here->future);
    cf__spares_give(&here->runner, here->runner.spares);
    cf__self = NULL;
    cf__visits = NULL;
    return (cf__thread_result)0;
}

/* The stack is full: another thread runs the task in this one's name, with its deque and its index
 * if it is a worker, while this one does nothing but wait for it. */
static cf_status cf__run_in_stand_in(cf__runner *self, cf__worker *worker, cf_future *future)
{
    cf_executor *const executor = cf__executor_of(future);
    cf__stand_in there;
    cf__thread thread;
    memset(&there, 0, sizeof there);
    there.runner.heap = self->heap;
    there.runner.worker = self->worker;
    there.runner.stack_room = executor->stack_room;
    there.visits = cf__visits;
    there.worker = worker;
    there.future = future;
    /* The stand-in does not wait yet, so it is no deadlock. */
    int64_t never = CF__NEVER;
    (void)cf__wait_begin(CF__A_STAND_IN, &there.runner, NULL, &never);
    const bool started =
        cf__thread_start(&thread, cf__stand_in_main, &there, executor->options.stack_size);
    if (started) cf__thread_join(thread);
    cf__wait_end();
    return started ? CF_OK : CF_SYSTEM;
}

CF__HOT bool cf__stack_is_full(const cf__runner *self)
{
    const uintptr_t here = cf__stack_here();
    const uintptr_t used = here > self->stack ? here - self->stack : self->stack - here;
    return self->depth >= CF__DEPTH || used > self->stack_room;
}

/* Inline executor, full queue. CF_SYSTEM: no thread was to be had for it, so it has ended with
 * that. The inline executor keeps to the thread of its caller, as deep as that can go. */
static cf_status cf__run_at_once(cf_executor *executor, cf_future *future)
{
    cf__runner here, *const outer = cf__self;
    if (outer == NULL) {
        memset(&here, 0, sizeof here);
        here.stack = cf__stack_here();
        here.stack_room = CF__STACK_ROOM;
        cf__self = &here;
    } else if (executor->max_workers > 0 && cf__stack_is_full(outer)) {
        const cf_status status = cf__run_in_stand_in(outer, NULL, future);
        if (status != CF_OK && cf__move(future, CF__PENDING, CF__SETTLING))
            cf__end_unrun(executor, future, status);
        return status;
    }
    cf__run_here(cf__self, executor, future);
    cf__self = outer;
    return CF_OK;
}

/* CF_OK: not for us to run, or it has run. */
CF__HOT cf_status cf__help(cf__runner *self, cf_future *future)
{
    if (future->home == NULL || self->heap != future->home || cf__state(future) != CF__PENDING)
        return CF_OK;
    CFUTURES_TEST_POINT(CF__POINT_HELP);
    if (cf__stack_is_full(self)) return cf__run_in_stand_in(self, self->worker, future);
    (void)cf__claim_and_run(self, self->worker, future);
    return CF_OK;
}

/* CF_OK: it is done. */
CF__HOT cf_status cf__await_inlined(cf_future *future, int64_t deadline)
{
    cf__runner *const self = cf__self;
    if (cf__is_done(future)) return CF_OK;
    if (cf__is_foreign(future)) return CF_FORKED;
    if (deadline == 0) return CF_TIMEOUT;
    if (self != NULL) {
        if (cf__is_past(deadline)) return CF_TIMEOUT; /* no further task is begun here */
        const cf_status status = cf__help(self, future);
        if (status != CF_OK || cf__is_done(future)) return status;
    }
    return cf__block_for(CF__A_FUTURE, future, deadline);
}

/* For all but the one place where it pays to have no call. */
CF__SLOW cf_status cf__await(cf_future *future, int64_t deadline)
{
    return cf__await_inlined(future, deadline);
}

CFUTURES_API cf_status cf_future_wait(cf_future *future, cf_duration timeout)
{
    if (future == NULL) return CF_INVALID;
    if (!cf__is_done(future)) {
        const cf_status status = cf__await_inlined(future, cf__deadline(timeout));
        if (status != CF_OK) return status;
    }
    cf__look(future);
    return (cf_status)future->cell.status;
}

CFUTURES_API const void *cf_future_result(cf_future *future, cf_duration timeout, cf_status *status)
{
    cf_status unwanted;
    if (status == NULL) status = &unwanted;
    *status = cf_future_wait(future, timeout);
    return *status == CF_OK ? future->cell.data : NULL;
}

/* ---- several futures ---- */

static void cf__set_init(cf__set *set)
{
    memset(set, 0, sizeof *set);
    set->group.signal.fd = set->group.signal.writer = -1;
    set->taken_end = &set->group.taken;
    cf__watch_forks(); /* of a thread that closes it a child may not wait for anything */
    set->forks = cf__load_relaxed(&cf__forks);
}

/* The chain oldest..newest. */
static void cf__taken_append(cf__set *set, cf__waiter *oldest, cf__waiter *newest)
{
    *set->taken_end = oldest;
    set->taken_end = &newest->next;
}

/* Takes what has arrived, oldest first. */
static void cf__set_collect(cf__set *set)
{
    uintptr_t seen = cf__load_relaxed(&set->group.ready);
    if ((seen & CF__NODE) == 0) return;
    CFUTURES_TEST_POINT(CF__POINT_SET_TAKE);
    while (!cf__cas(&set->group.ready, &seen, seen & CF__GROUP_SIGNAL)) {}
    cf__waiter *const newest = (cf__waiter *)(seen & CF__NODE), *oldest = NULL;
    for (cf__waiter *node = newest, *next; node != NULL; node = next) { /* the newest first */
        next = node->next;
        node->next = oldest;
        oldest = node;
        ((cf__member *)node)->arrived = true;
    }
    cf__taken_append(set, oldest, newest);
}

CF__SHARED void cf__set_link(cf__set *set, cf__member *member)
{
    member->next = NULL;
    member->previous = set->last;
    *(set->last != NULL ? &set->last->next : &set->members) = member;
    set->last = member;
    set->count++;
}

/* The member's memory is the caller's and stays until it is delivered or the set is closed. */
static void cf__set_add(cf__set *set, cf__member *member, cf_future *future, size_t index)
{
    member->waiter.future = future;
    member->waiter.callback = NULL;
    member->waiter.user = &set->group;
    member->index = index;
    member->arrived = false;
    cf__set_link(set, member);
    if (set->unclaimed == NULL) set->unclaimed = member;
    CFUTURES_TEST_POINT(CF__POINT_SET_ADD);
    if (!cf__attach(future, &member->waiter)) {
        cf__set_collect(set); /* what ended before it comes before it */
        member->waiter.next = NULL;
        member->arrived = true;
        cf__taken_append(set, &member->waiter, &member->waiter);
    } else if (cf__is_foreign(future)) {
        set->foreign = true;
    }
}

CF__SHARED void cf__set_unlink(cf__set *set, cf__member *member)
{
    if (set->unclaimed == member) set->unclaimed = member->next;
    *(member->previous != NULL ? &member->previous->next : &set->members) = member->next;
    *(member->next != NULL ? &member->next->previous : &set->last) = member->previous;
    set->count--;
}

static cf__member *cf__set_take(cf__set *set)
{
    if (set->group.taken == NULL) cf__set_collect(set);
    cf__waiter *const node = set->group.taken;
    if (node == NULL) return NULL;
    set->group.taken = node->next;
    if (node->next == NULL) set->taken_end = &set->group.taken;
    cf__set_unlink(set, (cf__member *)node);
    return (cf__member *)node;
}

/* In a task: runs one pending future of the own pool, if there is one. */
static cf_status cf__set_help(cf__set *set, cf__runner *self)
{
    cf_status status = CF_OK;
    if (set->helped != self->heap) set->unclaimed = set->members; /* another's may be its own */
    set->helped = self->heap;
    for (; set->unclaimed != NULL; set->unclaimed = set->unclaimed->next) {
        cf_future *const future = set->unclaimed->waiter.future;
        if (cf__state(future) != CF__PENDING) continue;
        status = cf__help(self, future);
        if (status != CF_OK || cf__is_done(future)) break;
    }
    return status;
}

/* CF_OK: something may have arrived. */
static cf_status cf__set_wait(cf__set *set, int64_t deadline)
{
    if (set->members == NULL) return CF_END;
    if (cf__is_stranded(set)) return CF_FORKED;
    if (deadline == 0) return CF_TIMEOUT;
    if (cf__self != NULL) {
        if (cf__is_past(deadline)) return CF_TIMEOUT; /* no further task is begun here */
        const cf_status status = cf__set_help(set, cf__self);
        if (status != CF_OK) return status;
    }
    return cf__block_for(CF__A_SET, set, deadline);
}

/* The next that ended, or NULL and why. */
static cf__member *cf__set_next(cf__set *set, int64_t deadline, cf_status *status)
{
    for (*status = CF_OK; *status == CF_OK; *status = cf__set_wait(set, deadline)) {
        cf__member *const member = cf__set_take(set);
        if (member != NULL) return member;
    }
    return NULL;
}

/* After this nobody touches the set or its members any more. What ends the wait for nodes that are
 * on their way: their settling thread's next few instructions. In the child of a fork there is no
 * such thread, nor anybody who could have the lock. */
static void cf__set_close(cf__set *set)
{
    cf__set_collect(set);
    for (cf__member *member = set->members; member != NULL; member = member->next)
        if (!member->arrived) member->arrived = cf__detach(member->waiter.future, &member->waiter);
    CFUTURES_TEST_POINT(CF__POINT_SET_CLOSE);
    for (cf__member *member = set->members; member != NULL; member = member->next) {
        while (!member->arrived && !cf__is_inherited(set)) {
            (void)cf__park_until(NULL, &set->group.ready, CF__NODE, 1, CF__NEVER);
            cf__set_collect(set);
        }
    }
    if (!cf__signal_is_open(&set->group.signal)) return;
    if (!cf__is_inherited(set)) {
        cf__lock(&set->group.signal_lock);
        cf__unlock(&set->group.signal_lock);
    }
    cf__signal_close(&set->group.signal);
}

/* ---- which futures were met before: a hash table of the places that hold them ---- */

typedef struct cf__seen {
    cf_future *const **slots; /* a place that was cleared since holds NULL, which matches nothing;
                                 one that is used again may stand in several */
    size_t             mask, used;
} cf__seen;

/* False: another place holds the same future. The table is never more than half full. */
static bool cf__seen_add(cf__seen *seen, cf_future *const *place)
{
    /* Neighbours in memory, which are met together, share cache lines here too. */
    const uintptr_t at = (uintptr_t)*place, hash = (at >> 9) * (uintptr_t)2654435769u;
    size_t slot = (size_t)((at >> 5) + (hash ^ (hash >> 15))) & seen->mask;
    bool known = false; /* the place is in the way already, from an earlier use */
    for (; seen->slots[slot] != NULL; slot = (slot + 1) & seen->mask) {
        if (seen->slots[slot] == place) known = true;
        else if (*seen->slots[slot] == *place) return false;
    }
    if (known) return true;
    seen->slots[slot] = place;
    seen->used++;
    return true;
}

/* Room for one more, or at once for `count` in all, those that are still there included. */
static bool cf__seen_reserve(cf__seen *seen, size_t count)
{
    if (seen->slots != NULL && seen->used <= seen->mask / 2) return true;
    size_t slots = 32;
    while (slots / 2 < count) slots *= 2; /* no overflow: as many pointers exist */
    const size_t bytes = cf__size(0, slots, sizeof *seen->slots);
    cf__seen bigger = {cf__alloc(bytes), slots - 1, 0};
    if (bigger.slots == NULL) return false;
    memset((void *)bigger.slots, 0, bytes);
    for (size_t i = 0; i <= seen->mask && seen->slots != NULL; i++)
        if (seen->slots[i] != NULL && *seen->slots[i] != NULL)
            (void)cf__seen_add(&bigger, seen->slots[i]);
    cf__free((void *)seen->slots);
    *seen = bigger;
    return true;
}

/* ---- which of several are done, without duplicates: each that is met gets the count's ticket,
 * where its runner stood ---- */

/* Takes cf__count_lock. */
static uintptr_t cf__count_begin(void)
{
    static uintptr_t ticket = 1; /* W, R: cf__count_lock. Odd, so no runner's address */
    cf__lock(&cf__count_lock);
    return ticket += 2;
}

/* Under the lock. False: it was met before. It must be done: until then its runner is needed. */
static bool cf__count_meets(cf_future *future, uintptr_t ticket)
{
    if (cf__load_relaxed(&future->runner) == ticket) return false;
    cf__store_relaxed(&future->runner, ticket);
    return true;
}

static size_t cf__count_done(cf_future *const *futures, size_t count, bool *done)
{
    size_t result = 0;
    const uintptr_t ticket = cf__count_begin();
    for (size_t i = 0; i < count; i++) {
        const bool is_done = futures[i] != NULL && cf__is_done(futures[i]);
        if (done != NULL) done[i] = is_done;
        result += is_done && cf__count_meets(futures[i], ticket);
    }
    CFUTURES_TEST_POINT(CF__POINT_COUNT);
    for (size_t i = 0; done != NULL && i < count; i++) /* a duplicate that ended in between */
        if (futures[i] != NULL && cf__load_relaxed(&futures[i]->runner) == ticket) done[i] = true;
    cf__unlock(&cf__count_lock);
    return result;
}

static bool cf__satisfies(cf_future *future, cf_return_when when)
{
    return cf__is_done(future) && (when == CF_FIRST_COMPLETED || cf__has_failed(future));
}

/* ---- as_completed ---- */

typedef struct cf__batch {
    struct cf__batch *next;
    size_t            capacity, used;
    cf__member members[];
} cf__batch;

struct cf_as_completed_iter {
    cf__batch *batches;   /* the newest, where the next member goes */
    cf__member *spare;    /* delivered, to be used again first */
    cf__seen   seen;      /* of members not yet delivered, and from the first addition on that is */
    bool       knows_early; /* done at once, of the early ones too */
    size_t     indices;   /* given out */
    int64_t    deadline;
    size_t     early_left, early_at, early_end;
    cf__set    set;       /* of those that were not done when they came */
    cf_future *early[];   /* by index: done at the beginning, to be delivered from early_at on */
};

/* Is the descriptor readable exactly while next would not block? Consumer. */
static void cf__iter_signal(cf_as_completed_iter *iter)
{
    cf__set *const set = &iter->set;
    const cf__signal *const signal = &set->group.signal;
    if (!cf__signal_is_open(signal) || cf__signal_is_inherited(signal)) return;
    cf__lock(&set->group.signal_lock);
    const bool ready = iter->early_left > 0 || set->group.taken != NULL || set->members == NULL ||
                       cf__is_stranded(set) ||
                       (cf__load_acquire(&set->group.ready) & CF__NODE) != 0;
    (void)cf__signal_set(signal, iter->deadline, ready);
    cf__unlock(&set->group.signal_lock);
}

#ifdef CFUTURES_POSIX
CFUTURES_API int cf_as_completed_fd(cf_as_completed_iter *iter)
{
    if (iter == NULL) return -1;
    cf__group *const group = &iter->set.group;
    if (group->signal.fd < 0) {
        cf__watch_forks();
        if (!cf__signal_open(&group->signal)) return -1;
        if (!cf__signal_time(&group->signal, iter->deadline)) {
            cf__signal_close(&group->signal);
            group->signal.fd = group->signal.writer = -1;
            return -1;
        }
        CFUTURES_TEST_POINT(CF__POINT_FD);
        (void)cf__fetch_or(&group->ready, CF__GROUP_SIGNAL); /* publishes the signal */
        cf__iter_signal(iter);
    }
    return group->signal.fd;
}
#endif

static bool cf__iter_reserve(cf_as_completed_iter *iter, size_t count)
{
    if (iter->spare != NULL ||
        (iter->batches != NULL && iter->batches->used < iter->batches->capacity))
        return true;
    cf__batch *const batch =
        cf__alloc_lines(cf__size(sizeof *batch, count, sizeof *batch->members));
    if (batch == NULL) return false;
    batch->next = iter->batches;
    batch->capacity = count;
    batch->used = 0;
    iter->batches = batch;
    return true;
}

/* There is room. Unless it is known. */
static void cf__iter_watch(cf_as_completed_iter *iter, cf_future *future, size_t index)
{
    cf__member *const spare = iter->spare;
    cf__member *const member =
        spare != NULL ? spare : &iter->batches->members[iter->batches->used];
    member->waiter.future = future;
    if (!cf__seen_add(&iter->seen, &member->waiter.future)) {
        member->waiter.future = NULL; /* the table may still know this place */
        return;
    }
    if (spare != NULL) iter->spare = spare->next;
    else iter->batches->used++;
    cf__set_add(&iter->set, member, future, index);
}

/* The table gets to know the early ones. False: out of memory. */
static bool cf__iter_know_early(cf_as_completed_iter *iter)
{
    for (size_t i = iter->early_at; i < iter->early_end; i++) {
        if (iter->early[i] == NULL) continue;
        if (!cf__seen_reserve(&iter->seen, 2 * (iter->set.count + iter->early_left))) return false;
        (void)cf__seen_add(&iter->seen, &iter->early[i]);
    }
    iter->knows_early = true;
    return true;
}

/* For one more. It can be among the early ones only if it is done. */
static bool cf__iter_make_room(cf_as_completed_iter *iter, cf_future *future)
{
    if (iter->early_left > 0 && !iter->knows_early && cf__is_done(future) &&
        !cf__iter_know_early(iter))
        return false;
    const size_t members = iter->set.count, early = iter->knows_early ? iter->early_left : 0;
    return cf__iter_reserve(iter, members < 16 ? 16 : members) &&
           cf__seen_reserve(&iter->seen, 2 * (members + early));
}

CFUTURES_API cf_status cf_as_completed_add(cf_as_completed_iter *iter, cf_future *future)
{
    if (iter == NULL) return CF_INVALID;
    if (future != NULL) {
        if (!cf__iter_make_room(iter, future)) return CF_NO_MEMORY;
        cf__iter_watch(iter, future, iter->indices);
    }
    iter->indices++;
    cf__iter_signal(iter);
    return CF_OK;
}

static void cf__early_drop(cf_as_completed_iter *iter, size_t index)
{
    iter->early[index] = NULL;
    iter->early_left--;
}

#define CF__EARLY_FEW 16 /* so many are compared with each other, without any lock */

/* Does a place before, or a member, hold the same future? */
static bool cf__early_repeats(const cf_as_completed_iter *iter, size_t index)
{
    const cf_future *const future = iter->early[index];
    for (size_t i = 0; i < index; i++)
        if (iter->early[i] == future) return true;
    for (cf__member *member = iter->set.members; member != NULL; member = member->next)
        if (member->waiter.future == future) return true;
    return false;
}

/* From *first on, drops duplicates among those that are done, and of members that are. Returns how
 * many are not done; *first becomes the first of them. */
static size_t cf__early_sift(cf_as_completed_iter *iter, size_t *first)
{
    size_t pending = 0;
    const bool few = iter->early_end <= CF__EARLY_FEW;
    const uintptr_t ticket = few ? 0 : cf__count_begin();
    for (cf__member *member = iter->set.members; member != NULL && !few; member = member->next)
        if (cf__is_done(member->waiter.future))
            (void)cf__count_meets(member->waiter.future, ticket);
    for (size_t i = *first; i < iter->early_end; i++) {
        cf_future *const future = iter->early[i];
        if (future == NULL) continue;
        if (!cf__is_done(future)) {
            if (pending++ == 0) *first = i;
            CFUTURES_TEST_POINT(CF__POINT_SIFT);
        } else if (few ? cf__early_repeats(iter, i) : !cf__count_meets(future, ticket)) {
            cf__early_drop(iter, i);
        }
    }
    if (!few) cf__unlock(&cf__count_lock);
    return pending;
}

/* Those that are not done become members, `pending` at most, and early ones that ended in between
 * leave their duplicates. False: out of memory. */
static bool cf__early_watch(cf_as_completed_iter *iter, size_t first, size_t pending)
{
    if (!cf__iter_reserve(iter, pending) || !cf__seen_reserve(&iter->seen, pending)) return false;
    for (size_t i = first; i < iter->early_end; i++) {
        cf_future *const future = iter->early[i];
        if (future == NULL || cf__is_done(future)) continue;
        cf__early_drop(iter, i);
        cf__iter_watch(iter, future, i);
    }
    if (iter->early_left > 0) (void)cf__early_sift(iter, &first);
    return true;
}

static cf_as_completed_iter *cf__iter_new(cf_future *const *futures, size_t count, int64_t deadline)
{
    cf_as_completed_iter *const iter =
        cf__alloc(cf__size(sizeof *iter, count, sizeof *iter->early));
    if (iter == NULL) return NULL;
    memset(iter, 0, sizeof *iter);
    cf__set_init(&iter->set);
    iter->deadline = deadline;
    iter->indices = iter->early_end = count;
    for (size_t i = 0; i < count; i++) {
        iter->early[i] = futures[i];
        iter->early_left += futures[i] != NULL;
    }
    size_t first = 0;
    const size_t pending = cf__early_sift(iter, &first);
    if (pending == 0 || cf__early_watch(iter, first, pending)) return iter;
    cf_as_completed_close(iter);
    return NULL;
}

CFUTURES_API cf_as_completed_iter *cf_as_completed(cf_future *const *futures, size_t count,
                                                   cf_duration timeout)
{
    if (futures == NULL && count > 0) return NULL;
    return cf__iter_new(futures, count, cf__deadline(timeout));
}

/* There is one. */
static cf_future *cf__early_take(cf_as_completed_iter *iter, size_t *index)
{
    while (iter->early[iter->early_at] == NULL) iter->early_at++;
    *index = iter->early_at;
    cf_future *const future = iter->early[iter->early_at];
    cf__early_drop(iter, iter->early_at++);
    return future;
}

/* NULL: there is none, in time. */
static cf_future *cf__member_take(cf_as_completed_iter *iter, int64_t deadline, size_t *index,
                                  cf_status *status)
{
    cf__member *const member = cf__set_next(&iter->set, deadline, status);
    if (member == NULL) return NULL;
    *index = member->index;
    cf_future *const future = member->waiter.future;
    member->waiter.future = NULL; /* it may be released now, and another may get its address */
    member->next = iter->spare;
    iter->spare = member;
    return future;
}

static cf_future *cf__iter_take(cf_as_completed_iter *iter, bool polls, size_t *index,
                                cf_status *status)
{
    cf_status unwanted;
    size_t nowhere;
    if (status == NULL) status = &unwanted;
    if (index == NULL) index = &nowhere;
    *status = CF_INVALID;
    if (iter == NULL) return NULL;
    *status = CF_OK;
    cf_future *const future =
        iter->early_left > 0 ? cf__early_take(iter, index)
                             : cf__member_take(iter, polls ? 0 : iter->deadline, index, status);
    cf__iter_signal(iter);
    return future;
}

CFUTURES_API cf_future *cf_as_completed_next(cf_as_completed_iter *iter, size_t *index,
                                             cf_status *status)
{
    return cf__iter_take(iter, false, index, status);
}

CFUTURES_API cf_future *cf_as_completed_try_next(cf_as_completed_iter *iter, size_t *index,
                                                 cf_status *status)
{
    return cf__iter_take(iter, true, index, status);
}

CFUTURES_API size_t cf_as_completed_remaining(const cf_as_completed_iter *iter)
{
    return iter != NULL ? iter->early_left + iter->set.count : 0;
}

CFUTURES_API void cf_as_completed_close(cf_as_completed_iter *iter)
{
    if (iter == NULL) return;
    cf__set_close(&iter->set);
    for (cf__batch *batch = iter->batches, *next; batch != NULL; batch = next) {
        next = batch->next;
        cf__free_lines(batch);
    }
    cf__free((void *)iter->seen.slots);
    cf__free(iter);
}

/* ---- wait ---- */

/* Without memory for an iterator: look every millisecond. What ends it: the event, or the deadline,
 * to the millisecond. */
CF__COLD void cf__wait_polling(cf_future *const *futures, size_t count, cf_return_when when,
                               int64_t deadline)
{
    cf_status status = CF_OK;
    while (status == CF_OK || status == CF_TIMEOUT) {
        cf_future *pending = NULL;
        for (size_t i = 0; i < count; i++) {
            if (futures[i] == NULL) continue;
            if (cf__satisfies(futures[i], when)) return;
            if (!cf__is_done(futures[i])) pending = futures[i];
        }
        if (pending == NULL || cf__is_past(deadline)) return;
        status = cf__await(pending, cf__deadline(CF_MILLISECOND));
    }
}

static void cf__wait_any(cf_future *const *futures, size_t count, cf_return_when when,
                         int64_t deadline)
{
    for (size_t i = 0; i < count; i++)
        if (futures[i] != NULL && cf__satisfies(futures[i], when)) return;
    cf_as_completed_iter *const iter = cf__iter_new(futures, count, deadline);
    if (iter == NULL) {
        cf__wait_polling(futures, count, when, deadline);
        return;
    }
    cf_future *future;
    do future = cf_as_completed_next(iter, NULL, NULL);
    while (future != NULL && !cf__satisfies(future, when));
    cf_as_completed_close(iter);
}

/* In a task, first all that it can run itself: others may wait for one of those. Then from the end:
 * most of the others have ended before the last, so that few of them wake this thread. */
static void cf__wait_all(cf_future *const *futures, size_t count, int64_t deadline)
{
    cf__runner *const self = cf__self;
    cf_status status = CF_OK;
    for (size_t i = 0; self != NULL && i < count && status == CF_OK; i++)
        if (futures[i] != NULL && !cf__is_past(deadline)) status = cf__help(self, futures[i]);
    for (size_t i = count; i-- > 0 && status == CF_OK;)
        if (futures[i] != NULL) status = cf__await(futures[i], deadline);
}

CFUTURES_API size_t cf_wait(cf_future *const *futures, size_t count, cf_return_when when,
                            cf_duration timeout, bool *done)
{
    if (done != NULL && count > 0) memset(done, 0, count * sizeof *done);
    if (futures == NULL || when < CF_ALL_COMPLETED || when > CF_FIRST_EXCEPTION) return 0;
    const int64_t deadline = cf__deadline(timeout);
    if (when == CF_ALL_COMPLETED) cf__wait_all(futures, count, deadline);
    else cf__wait_any(futures, count, when, deadline);
    return cf__count_done(futures, count, done);
}

/* ---------------------------------------------------------------------------------------------
 * pool                                                                                  >>pool
 *
 * Workers, and how tasks reach them. Whoever adds a task looks at `hungry`: only if it is set,
 * because some worker sleeps or may be started and none is on its way, it takes the lock, and
 * cf__balance decides:
 *
 *     pending tasks > free workers, somebody sleeps, nobody is being woken    wake one
 *     pending tasks > free workers + sleepers + those that begin, fewer
 *                     workers than allowed                                    start one
 *
 * A worker that begins will take a task, so no other is started for it; but nobody knows when, so
 * no sleeper relies on it: an initializer may take long, or even need the task.
 *
 * The same is asked whenever a worker takes tasks, so wakes go on in a chain while there is need,
 * and a burst of submits wakes one worker and not all. A worker is free from just before the result
 * of its last task can be seen, so that submit, result, submit uses one worker.
 *
 * Why no wake-up is lost [idle]: who adds a task stores it (tail, bottom), then loads `hungry`; who
 * goes to sleep stores `hungry`, then looks at ring and deques. All four are sequentially
 * consistent, so at least one of the two sees the other. While a woken worker is on its way,
 * `hungry` is clear; when it arrives it sets it again and looks for itself.
 *
 * Nor by handing a task to the worker that spins [hand]: while the task is in `spinner`, neither it
 * nor that worker is counted; the worker is BUSY before the task leaves it, so who finds it gone
 * finds the worker busy; and then it looks at the deques, since who filled one may have counted on
 * it.
 *
 * A worker ends when the executor is closing and no task is left anywhere. It is joined by whoever
 * waits for the shutdown; the last step out (see cf__leave_unlock) tells, or frees an executor that
 * one of its own workers closed.
 * --------------------------------------------------------------------------------------------- */

typedef struct cf__nudge {
    cf__worker *wake;
    bool        start; /* `starting` is ours: see cf__start_workers */
} cf__nudge;

/* Under the lock: one more, or one less. */
static void cf__count_awake(cf_executor *executor, uintptr_t change)
{
    const uintptr_t awake = cf__load_relaxed(&executor->awake) + change;
    cf__store_relaxed(&executor->awake, awake);
    if (cf__load_relaxed(&executor->heap.quiet) != 0) cf__store_relaxed(&executor->heap.quiet, 0);
}

/* Under the lock: the last that lay down. */
static cf__worker *cf__rise_locked(cf_executor *executor)
{
    cf__worker *const worker = executor->asleep;
    executor->asleep = worker->next;
    executor->asleep_count--;
    cf__count_awake(executor, 1);
    cf__store_release(&worker->state, CF__FREE);
    return worker;
}

/* Under the lock. */
static bool cf__set_hungry(cf_executor *executor)
{
    const bool hungry =
        executor->waking == 0 && (executor->asleep_count > 0 || cf__may_start(executor));
    if (cf__load_relaxed(&executor->hungry) != hungry) cf__store_seq_cst(&executor->hungry, hungry);
    return hungry;
}

/* Under the lock; what it says is done after the lock. */
static cf__nudge cf__balance(cf_executor *executor)
{
    cf__nudge nudge = {NULL, false};
    if (!cf__set_hungry(executor)) return nudge;
    const size_t pending = cf__pending(executor), idle = cf__free_workers(executor);
    const size_t coming = executor->asleep_count + cf__load_relaxed(&executor->beginning);
    if (pending > idle + coming && cf__may_start(executor))
        nudge.start = executor->starting = true;
    if (pending > idle && executor->asleep != NULL) {
        nudge.wake = cf__rise_locked(executor);
        executor->waking++;
    }
    (void)cf__set_hungry(executor);
    return nudge;
}

static bool cf__start_workers(cf_executor *executor);

/* Under the lock, which it lets go. False: there was no worker and none could be started, so all
 * that was queued ended with CF_SYSTEM, unless another submitter got one meanwhile. */
static bool cf__balance_unlock(cf_executor *executor)
{
    const cf__nudge nudge = cf__balance(executor);
    cf__unlock_space(executor);
    CFUTURES_TEST_POINT(CF__POINT_NUDGE);
    if (nudge.wake != NULL) cf__unpark_one(&nudge.wake->state);
    return !nudge.start || cf__start_workers(executor);
}

/* Tasks have come in: the same, without the lock. */
static bool cf__call_workers(cf_executor *executor)
{
    cf__lock(&executor->lock);
    return cf__balance_unlock(executor);
}

/* ---- taking tasks out unrun ---- */

/* From one of the first `count` workers, beginning with that one. */
static cf_future *cf__steal_any(cf_executor *executor, size_t first, size_t count)
{
    cf_future *future = NULL;
    for (size_t i = 0; future == NULL && i < count; i++) {
        cf__worker *const victim = executor->workers[(first + i) % count];
        while (future == NULL && cf__deque_length(victim) > 0) future = cf__deque_steal(victim);
    }
    return future;
}

/* The next entry from anywhere; NULL: there is none, or there are workers for `orphans`. */
static cf_future *cf__take_any(cf_executor *executor, bool orphans)
{
    if (cf__processes_of(executor) != NULL) return executor->processes->take(executor);
    cf__lock(&executor->lock);
    if (orphans && executor->alive > 0) {
        cf__unlock(&executor->lock);
        return NULL;
    }
    uintptr_t handed = cf__load_relaxed(&executor->spinner);
    cf_future *future = cf__ring_pop(executor);
    if (future == NULL && handed > CF__SPINS && cf__cas(&executor->spinner, &handed, CF__SPINS))
        future = (cf_future *)handed;
    if (future == NULL) future = cf__steal_any(executor, 0, executor->started);
    cf__unlock(&executor->lock);
    return future;
}

/* Ends all tasks that have not started, with a status; with CF_SYSTEM as long as there is no
 * worker. What ends the loop: nothing new comes in, since the executor is closing or broken, or
 * only as much as others submit. */
static void cf__withdraw(cf_executor *executor, cf_status status)
{
    for (cf_future *future; (future = cf__take_any(executor, status == CF_SYSTEM)) != NULL;) {
        CFUTURES_TEST_POINT(CF__POINT_WITHDRAW);
        if (cf__move(future, CF__PENDING, CF__SETTLING)) cf__end_unrun(executor, future, status);
        else cf__drop_tombstone(executor, future);
    }
}

/* ---- worker ---- */

/* How many more tasks to take at once: only while they are so short that nobody can tell. */
static size_t cf__batch_size(cf_executor *executor, cf__worker *worker)
{
    const int64_t now = cf__now();
    const bool brief = now - worker->pace_from < 1000 * (int64_t)worker->paced;
    worker->pace_from = now;
    worker->paced = 0;
    if (!brief || executor->bounded) return 0;
    if (cf__deque_length(worker) > 0) return 0; /* a batch lies at the bottom of the deque */
    /* A submitter in full swing is best left alone for a microsecond: fewer cache lines change
     * hands, and there is more to take at once. */
    const size_t waiting = cf__ring_length(executor);
    if (executor->cpus > 1 && waiting > 1 && waiting < (size_t)3 * CF__BATCH)
        for (int i = 0; i < 40; i++) cf__pause();
    const size_t sharers = (size_t)cf__load_relaxed(&executor->awake) + 1;
    const size_t share = cf__ring_length(executor) / sharers;
    return share < CF__BATCH ? share : CF__BATCH;
}

/* The tasks that stand in the deque up to `end` are a batch. */
static void cf__batch_end(cf__worker *worker, uintptr_t end)
{
    worker->batch_end = end;
    cf__store_seq_cst(&worker->bottom, end);
}

/* Under the lock, from the ring: one task to run, a few more into the empty deque. The tail is read
 * once: each look takes its cache line away from a submitter. */
static cf_future *cf__worker_fetch_locked(cf__worker *worker, size_t more)
{
    cf_executor *const executor = worker->executor;
    const size_t waiting = cf__ring_length(executor);
    if (waiting == 0) return NULL;
    if (more >= waiting) more = waiting - 1;
    const uintptr_t head = cf__load_relaxed(&executor->head);
    const uintptr_t bottom = cf__load_relaxed(&worker->bottom);
    cf_future *const future = *cf__ring_slot(executor->ring, executor->capacity, head);
    cf__prefetch(future);
    for (size_t i = 1; i <= more; i++) {
        cf_future *const next =
            *cf__ring_slot(executor->ring, executor->capacity, head + i * CF__STEP);
        cf__prefetch(next);
        cf__store_relaxed(cf__deque_slot(worker, bottom + i - 1), (uintptr_t)next);
    }
    CFUTURES_TEST_POINT(CF__POINT_RING_POP);
    cf__store_release(&executor->head, head + (more + 1) * CF__STEP); /* [head] */
    if (more > 0) cf__batch_end(worker, bottom + more);
    return future;
}

/* Is there anything in a deque? [idle] Who has said what it does first sees what is there. */
static bool cf__crew_looks_busy(cf__worker *worker)
{
    cf_executor *const executor = worker->executor;
    const size_t crew = (size_t)cf__load_acquire(&executor->crew);
    for (size_t i = 0; i < crew; i++)
        if (cf__deque_length(executor->workers[i]) > 0) return true;
    return cf__deque_length(worker) > 0; /* a new one may not belong to the crew yet */
}

/* Is there anything to find? */
static bool cf__looks_busy(cf__worker *worker)
{
    return cf__ring_length(worker->executor) > 0 || cf__crew_looks_busy(worker);
}

/* A task that it finds; then it is busy. Others' batches are older than what is in the ring. */
static cf_future *cf__worker_search(cf__worker *worker)
{
    cf_executor *const executor = worker->executor;
    if (!cf__looks_busy(worker)) return NULL;
    cf_future *found = NULL;
    if (cf__deque_length(worker) == 0 || worker->deferred) /* of its own only at last */
        found = cf__steal_any(executor, worker->index + 1,
                              (size_t)cf__load_acquire(&executor->crew));
    const bool fetches = found == NULL && !worker->deferred && cf__ring_length(executor) > 0;
    const size_t more = fetches ? cf__batch_size(executor, worker) : 0;
    CFUTURES_TEST_POINT(CF__POINT_SEARCH);
    cf__lock(&executor->lock);
    if (fetches) found = cf__worker_fetch_locked(worker, more);
    if (found == NULL) found = cf__deque_take(worker);
    worker->deferred = worker->deferred && cf__deque_length(worker) > 0;
    if (found != NULL) cf__store_relaxed(&worker->state, CF__BUSY);
    (void)cf__balance_unlock(executor);
    return found;
}

/* The spin is over. Returns what it was handed, if that comes before all that waits elsewhere. */
static cf_future *cf__worker_receive(cf__worker *worker)
{
    cf_executor *const executor = worker->executor;
    uintptr_t seen = CF__SPINS;
    while (!cf__cas_seq_cst(&executor->spinner, &seen, 0)) /* [hand] */
        cf__store_seq_cst(&worker->state, seen != CF__SPINS ? CF__BUSY : CF__FREE);
    if (seen == CF__SPINS) return NULL;
    cf_future *const future = (cf_future *)seen;
    cf__prefetch(&future->cell.local);
    if (!cf__crew_looks_busy(worker)) return future;
    const uintptr_t bottom = cf__load_relaxed(&worker->bottom);
    cf__store_relaxed(cf__deque_slot(worker, bottom), (uintptr_t)future);
    cf__batch_end(worker, bottom + 1);
    worker->deferred = true;
    cf__store_release(&worker->state, CF__FREE);
    return NULL;
}

/* Spins for work, if a CPU is free and nobody else does. True: something has turned up, perhaps a
 * task that it was handed. */
static bool cf__worker_spin(cf__worker *worker, cf_future **handed)
{
    cf_executor *const executor = worker->executor;
    uintptr_t nobody = 0;
    if (executor->cpus < 2 || cf__load_relaxed(&executor->awake) > executor->cpus ||
        !cf__cas(&executor->spinner, &nobody, CF__SPINNER))
        return false;
    cf__store_relaxed(&executor->spinning, (uintptr_t)worker);
    cf__store_release(&executor->spinner, CF__SPINS); /* [hand] */
    bool found = false;
    int64_t now = 0, from = 0;
    while (!found && cf__load_relaxed(&executor->closing) == 0 &&
           now - from <= (int64_t)worker->spin) {
        /* Tasks come by hand: queues are looked at now and then, their cache lines are others'. */
        for (int i = 0; i < 64 && !found; i++) {
            found = cf__load_relaxed(&executor->spinner) != CF__SPINS;
            if (!found) cf__pause();
        }
        if (found || cf__looks_busy(worker)) break;
        now = cf__now();
        if (from == 0) from = now;
    }
    worker->idle_from = from;
    CFUTURES_TEST_POINT(CF__POINT_SPUN);
    *handed = cf__worker_receive(worker);
    return *handed != NULL || cf__looks_busy(worker);
}

/* Nobody is awake, and nobody has been for a while: what a burst of tasks left behind goes back to
 * the system, now or with the last release of its futures. */
static void cf__tidy(cf_executor *executor)
{
    cf_future **surplus = NULL;
    const uintptr_t tail = cf__lock_both(executor);
    if (cf__ring_length(executor) == 0 && executor->capacity > 256) {
        surplus = executor->ring;
        executor->ring = NULL;
        executor->capacity = 0;
    }
    cf__store_relaxed(&executor->heap.quiet, cf__load_relaxed(&executor->awake) == 0);
    cf__unlock_both(executor, tail);
    cf__free((void *)surplus);
    (void)cf__heap_trim(&executor->heap, 0);
}

/* When to do that: the next burst may come soon, and new pages are dear. CF__NEVER: need not. */
static int64_t cf__tidy_time(cf_executor *executor)
{
    const bool last = cf__load_relaxed(&executor->awake) == 0;
    return last && cf__heap_is_big(&executor->heap) ? cf__deadline(CF__TIDY) : CF__NEVER;
}

/* What ends it: a task was submitted that nobody else is free for, or the executor closes. */
static void cf__worker_sleep(cf__worker *worker)
{
    cf_executor *const executor = worker->executor;
    const int64_t from = worker->idle_from != 0 ? worker->idle_from : cf__now();
    worker->idle_from = 0;
    int64_t tidy_time = cf__tidy_time(executor);
    CFUTURES_TEST_POINT(CF__POINT_SLEEP);
    while (cf__load_acquire(&worker->state) == CF__ASLEEP) {
        if (!cf__park(&worker->state, CF__ASLEEP, tidy_time)) {
            cf__tidy(executor);
            tidy_time = CF__NEVER;
        }
    }
    CFUTURES_TEST_POINT(CF__POINT_WOKEN);
    cf__lock(&executor->lock);
    executor->waking--;
    (void)cf__balance_unlock(executor);
    /* Spinning on would have paid where work came this soon. */
    worker->spin = cf__spin_learn(worker->spin, cf__now() - from);
}

/* Under the lock. */
static void cf__lie_down_locked(cf_executor *executor, cf__worker *worker)
{
    worker->next = executor->asleep;
    executor->asleep = worker;
    executor->asleep_count++;
    cf__count_awake(executor, 0 - (uintptr_t)1);
    cf__store_relaxed(&worker->state, CF__ASLEEP);
    (void)cf__set_hungry(executor); /* [idle] before the last look */
}

/* Under the lock. A task that somebody carries [carried] may come back into a deque, and may be
 * needed there. */
static bool cf__is_carried(cf_executor *executor)
{
    for (size_t i = 0; i < executor->started; i++)
        if (cf__load_relaxed(&executor->workers[i]->state) == CF__CARRIES) return true;
    return false;
}

/* Nothing to do. False: it never will have, leave. */
static bool cf__worker_rest(cf__worker *worker)
{
    cf_executor *const executor = worker->executor;
    cf__spares_give(&worker->runner, worker->runner.spares);
    worker->paced = 0;
    CFUTURES_TEST_POINT(CF__POINT_REST);
    cf__lock(&executor->lock);
    cf__lie_down_locked(executor, worker);
    const bool asleep = !cf__looks_busy(worker) && cf__load_relaxed(&executor->closing) == 0;
    const bool stays =
        asleep || cf__load_relaxed(&executor->closing) == 0 || cf__looks_busy(worker);
    const bool carried = !stays && cf__is_carried(executor);
    if (!asleep) {
        (void)cf__rise_locked(executor);
        (void)cf__set_hungry(executor);
    }
    cf__unlock_space(executor); /* since a worker is free now */
    if (asleep) cf__worker_sleep(worker);
    if (carried) cf__yield(); /* to the carrier, whose next few instructions tell */
    return stays || carried;
}

/* Callbacks, and what the last release calls, may take long, or wait: meanwhile the worker counts
 * as busy, and what it had in hand is up for others. */
static void cf__worker_turn_busy(cf__worker *worker, cf_future *in_hand)
{
    if (in_hand != NULL) (void)cf__deque_push(worker, in_hand); /* room: it came from there */
    cf__lock(&worker->executor->lock);
    cf__store_relaxed(&worker->state, CF__BUSY);
    (void)cf__balance_unlock(worker->executor);
}

/* What it has at hand; NULL: nothing, from now on it is free. */
static cf_future *cf__worker_next(cf__worker *worker)
{
    /* Now and then the ring goes before the worker's own children, lest they keep it for ever. */
    const bool skip = ++worker->ticks % CF__BATCH == 0 && cf__ring_length(worker->executor) > 0 &&
        (intptr_t)(cf__load_relaxed(&worker->bottom) - worker->batch_end) > 0;
    cf__store_relaxed(&worker->state, CF__CARRIES); /* [carried] ordered by top or bottom */
    cf_future *const next = skip || worker->deferred ? NULL : cf__deque_take(worker);
    if (next == NULL) cf__store_release(&worker->state, CF__FREE);
    else cf__prefetch(next);
    CFUTURES_TEST_POINT(CF__POINT_FREE);
    return next;
}

/* Runs what it took from a queue. Returns what to run next; NULL: nothing at hand, it is free. */
static cf_future *cf__worker_run(cf__worker *worker, cf_future *future)
{
    worker->paced++;
    cf__store_relaxed(&worker->state, CF__BUSY);
    if (!cf__move(future, CF__PENDING, CF__RUNNING)) {
        cf__bury(worker->executor, future);
        return cf__worker_next(worker);
    }
    cf__bump(&worker->started);
    cf__execute(&worker->runner, future);
    cf__count_end(worker, future);
    cf_future *const next = cf__worker_next(worker);
    bool dropped;
    cf__waiter *const callbacks = cf__publish(future, &dropped);
    const bool calls = callbacks != NULL || (dropped && cf__has_last_words(future));
    if (calls) cf__worker_turn_busy(worker, next);
    cf__run_callbacks(future, callbacks);
    if (dropped) cf_future_release(future);
    return calls ? cf__worker_next(worker) : next;
}

/* Under both locks: a task has come in, and whoever submitted it has not yet got to starting the
 * first worker; once the door is closed it would not. */
static bool cf__lacks_worker(cf_executor *executor)
{
    return cf__processes_of(executor) == NULL && executor->alive == 0 &&
           cf__ring_length(executor) > 0 && cf__may_start(executor);
}

/* Closes or breaks the executor: nothing comes in any more, everybody wakes up and looks. */
static void cf__close_door(cf_executor *executor, uintptr_t how)
{
    CFUTURES_TEST_POINT(CF__POINT_DOOR);
    const uintptr_t tail = cf__lock_both(executor);
    const bool start = cf__lacks_worker(executor);
    if (start) executor->starting = true;
    cf__store_seq_cst(&executor->closing, cf__load_relaxed(&executor->closing) | how);
    cf__bump(&executor->space);
    while (executor->asleep != NULL) {
        executor->waking++;
        cf__unpark_one(&cf__rise_locked(executor)->state);
    }
    (void)cf__set_hungry(executor);
    cf__unpark_all(&executor->space);
    cf__unlock_both(executor, tail);
    if (start) (void)cf__start_workers(executor);
}

static bool cf__worker_begin(cf__worker *worker)
{
    cf_executor *const executor = worker->executor;
    cf__self = &worker->runner;
    worker->runner.stack = cf__stack_here();
    cf__thread_name(executor->name, worker->index);
    CFUTURES_TEST_POINT(CF__POINT_BEGIN);
    const cf_pool_options *const options = &executor->options;
    if (options->initializer == NULL || options->initializer(options->worker_arg) == 0) {
        cf__tell_worker(executor, CF_EVENT_WORKER_STARTED, worker->index);
        return true;
    }
    cf__close_door(executor, CF__BROKEN);
    cf__withdraw(executor, CF_BROKEN);
    return false;
}

static void cf__worker_loop(cf__worker *worker)
{
    for (cf_future *handed = NULL;;) {
        cf_future *future = handed != NULL ? handed : cf__worker_search(worker);
        while (future != NULL) future = cf__worker_run(worker, future);
        /* Who was handed a task is likely to be handed the next: it does not look round first,
         * unless at its own deque, which must have room for what comes by hand. */
        const bool looks = handed == NULL || cf__deque_length(worker) > 0;
        handed = NULL;
        if (looks && cf__looks_busy(worker)) continue;
        if (!cf__worker_spin(worker, &handed) && !cf__worker_rest(worker)) return;
    }
}

static cf__thread_result cf__worker_main(void *arg)
{
    cf__worker *const worker = arg;
    cf_executor *const executor = worker->executor;
    const bool begun = cf__worker_begin(worker);
    cf__lock(&executor->lock);
    cf__lower(&executor->beginning);
    if (begun) cf__store_release(&worker->state, CF__FREE);
    cf__unlock(&executor->lock);
    if (begun) {
        cf__worker_loop(worker);
        if (executor->options.finalizer != NULL)
            executor->options.finalizer(executor->options.worker_arg);
        cf__tell_worker(executor, CF_EVENT_WORKER_ENDED, worker->index);
    }
    cf__spares_give(&worker->runner, worker->runner.spares);
    cf__self = NULL;
    CFUTURES_TEST_POINT(CF__POINT_END);
    cf__lock(&executor->lock);
    cf__store_relaxed(&worker->state, CF__BUSY);
    cf__count_awake(executor, 0 - (uintptr_t)1);
    executor->alive--;
    cf__leave_unlock(executor, worker);
    return (cf__thread_result)0;
}

/* ---- starting threads ---- */

/* One more worker, counted from now on; it begins. NULL: out of memory. */
static cf__worker *cf__worker_new(cf_executor *executor)
{
    cf__worker *const worker = cf__alloc_lines(sizeof *worker);
    if (worker == NULL) return NULL;
    memset(worker, 0, sizeof *worker);
    worker->executor = executor;
    worker->spin = CF__SPIN_MOST;
    worker->runner.heap = &executor->heap;
    worker->runner.stack_room = executor->stack_room;
    cf__store_relaxed(&worker->state, CF__BUSY);
    cf__lock(&executor->lock);
    worker->runner.worker = worker;
    worker->index = executor->started++;
    executor->workers[worker->index] = worker;
    executor->alive++;
    cf__bump(&executor->beginning);
    cf__count_awake(executor, 1);
    cf__unlock(&executor->lock);
    return worker;
}

/* The newest could not be started. */
static void cf__worker_forget_locked(cf__worker *worker)
{
    worker->executor->started--;
    worker->executor->alive--;
    cf__lower(&worker->executor->beginning);
    cf__count_awake(worker->executor, 0 - (uintptr_t)1);
}

/* `starting` is ours. False: without any worker, what was queued could never run, and has ended
 * with CF_SYSTEM, unless another submitter got one meanwhile. */
static bool cf__start_workers(cf_executor *executor)
{
    cf__visit visit;
    cf__nudge nudge;
    bool nobody;
    do {
        cf__worker *const worker = cf__worker_new(executor);
        const size_t stack = executor->options.stack_size;
        CFUTURES_TEST_POINT(CF__POINT_START);
        const bool done =
            worker != NULL && cf__thread_start(&worker->thread, cf__worker_main, worker, stack);
        CFUTURES_TEST_POINT(CF__POINT_STARTED);
        cf__lock(&executor->lock);
        executor->starved = !done;
        if (done) cf__store_release(&executor->crew, executor->started); /* it will not go away */
        else if (worker != NULL) cf__worker_forget_locked(worker);
        executor->starting = !done; /* starts no other: the next submit tries again */
        nudge = cf__balance(executor);
        if (!done) {
            executor->starting = false;
            (void)cf__set_hungry(executor);
        }
        nobody = executor->alive == 0 && !done;
        if (!nudge.start) cf__visit_begin(&visit, executor);
        cf__unlock(&executor->lock);
        if (nudge.wake != NULL) cf__unpark_one(&nudge.wake->state);
        if (!done) cf__free_lines(worker);
    } while (nudge.start);
    if (nobody) cf__withdraw(executor, CF_SYSTEM);
    cf__visit_end(&visit);
    return !nobody;
}

/* ---- submit ---- */

static cf_status cf__refusal(cf_executor *executor)
{
    const uintptr_t closing = cf__load_acquire(&executor->closing);
    return (closing & CF__BROKEN) != 0 ? CF_BROKEN : closing != 0 ? CF_SHUTDOWN : CF_OK;
}

/* Ends a future that nobody else knows yet; the caller's reference stays. */
static void cf__refuse(cf_future *future, cf_status status)
{
    cf__cell_fail(&future->cell, status);
    cf__store_relaxed(&future->refs, CF__REF);
    cf__store_release(&future->word, CF__DONE);
}

/* The same, after it was told as submitted. */
CF__COLD void cf__turn_away(cf_future *future, cf_status status)
{
    if (future->home->observer != NULL) cf__tell_unrun(future, status);
    cf__refuse(future, status);
}

/* Under both locks, but lets them go meanwhile: what to do with one more task? CF_OK: run it here,
 * or there is room. What ends the wait: a task was taken or cancelled (space), or the executor
 * closes. */
static cf_status cf__admit(cf_executor *executor, uintptr_t *tail, bool *run_here)
{
    const cf_on_full on_full = executor->options.on_full;
    cf_status status = cf__refusal(executor);
    executor->blocked++;
    while (status == CF_OK && cf__is_full(executor)) {
        const uintptr_t seen = cf__load_relaxed(&executor->space);
        *run_here = on_full == CF_FULL_CALLER_RUNS ||
                    (on_full == CF_FULL_BLOCK && cf__self_worker(executor) != NULL);
        if (*run_here) break;
        if (on_full == CF_FULL_REJECT) {
            status = CF_QUEUE_FULL;
            break;
        }
        cf__unlock_both(executor, *tail);
        CFUTURES_TEST_POINT(CF__POINT_ADMIT);
        status = cf__await_pool(executor, &executor->space, seen, CF__NEVER);
        *tail = cf__lock_both(executor);
        const cf_status refused = cf__refusal(executor);
        if (refused != CF_OK) status = refused;
    }
    executor->blocked--;
    return status;
}

/* Under the tail's lock: they are in the ring with the unlock, which takes the new tail. */
static cf_status cf__append(cf_executor *executor, uintptr_t *tail, cf_future **futures,
                            size_t count)
{
    const cf_status refused = cf__refusal(executor);
    if (refused != CF_OK) return refused;
    if (!cf__ring_has_room(executor, *tail, count) && !cf__ring_reserve(executor, tail, count))
        return CF_NO_MEMORY;
    for (size_t i = 0; i < count; i++, *tail += CF__STEP)
        *cf__ring_slot(executor->ring, executor->capacity, *tail) = futures[i];
    CFUTURES_TEST_POINT(CF__POINT_RING_PUSH);
    executor->heap.submitted += count;
    return CF_OK;
}

/* Something is in the ring. [idle] The store to tail came before the load of hungry. */
static inline cf_status cf__announce(cf_executor *executor)
{
    CFUTURES_TEST_POINT(CF__POINT_WORK);
    if (cf__load_seq_cst(&executor->hungry) == 0) return CF_OK;
    /* The spinner has not popped yet when it is still seen spinning: if this is the only task, it
     * is the one that it will find, at the latest when it looks again after its spin. */
    if (cf__ring_length(executor) == 1 && cf__load_seq_cst(&executor->spinner) == CF__SPINS)
        return CF_OK;
    return cf__call_workers(executor) ? CF_OK : CF_SYSTEM;
}

/* To the ring of an executor without a limit. Afterwards the futures may have run, and been
 * released by others. With CF_SYSTEM they have ended already, unless meanwhile another submitter
 * got a worker for them; with another refusal they are still the caller's. */
static cf_status cf__enqueue(cf_executor *executor, cf_future **futures, size_t count)
{
    uintptr_t tail = cf__heap_lock(&executor->heap);
    const cf_status status = cf__append(executor, &tail, futures, count);
    cf__heap_unlock(&executor->heap, tail);
    return status == CF_OK ? cf__announce(executor) : status;
}

/* With a limit: one at a time. It may block and outlast a shutdown, or run the task here. */
static cf_status cf__enqueue_bounded(cf_executor *executor, cf_future *future)
{
    cf__visit visit;
    bool run_here = false;
    uintptr_t tail = cf__lock_both(executor);
    cf__visit_begin(&visit, executor);
    cf_status status = cf__admit(executor, &tail, &run_here);
    cf__unlock(&executor->lock); /* cf__append takes it where the ring has to grow */
    if (run_here) executor->heap.submitted++;
    else if (status == CF_OK) status = cf__append(executor, &tail, &future, 1);
    cf__heap_unlock(&executor->heap, tail);
    if (run_here) status = cf__run_at_once(executor, future);
    else if (!cf__call_workers(executor) && status == CF_OK) status = CF_SYSTEM;
    cf__visit_end(&visit);
    return status;
}

/* By a worker: without a lock. False: its deque is full, or the executor closes. */
CF__HOT bool cf__enqueue_child(cf__worker *worker, cf_future *future)
{
    cf_executor *const executor = worker->executor;
    if (cf__load_acquire(&executor->closing) != 0 || !cf__deque_submit(worker, future))
        return false;
    /* [closing] Who leaves looks at deques after that was set: one of the two sees the other. */
    if (cf__load_seq_cst(&executor->closing) != 0 && cf__deque_pop(worker) == future) {
        cf__lower(&worker->submitted);
        return false;
    }
    CFUTURES_TEST_POINT(CF__POINT_WORK);
    if (cf__load_seq_cst(&executor->hungry) != 0) (void)cf__call_workers(executor); /* [idle] */
    return true;
}

/* Queues futures, one alone where the queue is bounded. Refused, they are done. */
static cf_status cf__schedule(cf_executor *executor, cf_future **futures, size_t count)
{
    cf_status status;
    cf__worker *const worker = cf__self_worker(executor);
    for (size_t i = 0; executor->heap.observer != NULL && i < count; i++)
        cf__tell_submitted(futures[i]);
    if (cf__processes_of(executor) != NULL)
        status = executor->processes->submit(executor, futures, count);
    else if (executor->bounded) status = cf__enqueue_bounded(executor, *futures);
    else if (count == 1 && worker != NULL && cf__enqueue_child(worker, *futures)) return CF_OK;
    else status = cf__enqueue(executor, futures, count);
    for (size_t i = 0; status != CF_OK && status != CF_SYSTEM && i < count; i++)
        cf__turn_away(futures[i], status);
    return status;
}

/* A new future takes the call. lend: a big argument instead of its copy, for as long as the submit
 * lasts. False: no memory for the copy, it is refused. */
CF__HOT bool cf__future_call(cf_future *future, cf_task_fn *fn, const void *arg, size_t arg_size,
                             const cf_submit_options *options, bool lend)
{
    cf__cell *const cell = &future->cell;
    size_t room = CF__INLINE;
    CF__TEST_FUTURE(future, true);
    cf__future_init(future);
    cell->call.fn = fn;
    cell->size = arg_size;
    if (options != NULL) {
        cell->traits = CF__OPTIONS;
        memcpy(cell->local + CF__INLINE_WITH_OPTIONS, options, sizeof *options);
        room = CF__INLINE_WITH_OPTIONS;
    }
    if (arg_size == 0) {
        cell->data = (void *)(uintptr_t)arg;
    } else if (arg_size <= room) {
        cf__copy(cell->local, arg, arg_size);
    } else if (lend && arg_size > CF__BIG) {
        cell->data = (void *)(uintptr_t)arg;
        cell->traits |= CF__ARG_LENT;
    } else {
        cell->data = cf__copy_of(arg, arg_size);
        cell->traits |= CF__ARG_COPY;
        if (cell->data == NULL) {
            cf__refuse(future, CF_NO_MEMORY);
            return false;
        }
    }
    return true;
}

/* Can such a task be submitted at all? */
static cf_status cf__check(cf_executor *executor, cf_task_fn *fn, const void *arg)
{
    if (executor == NULL || fn == NULL) return CF_INVALID;
    if (cf__is_foreign_heap(&executor->heap)) return CF_FORKED;
    const cf__processes *const processes = cf__processes_of(executor);
    return processes == NULL || processes->accepts(executor, fn, arg) ? CF_OK : CF_INVALID;
}

/* CF_OK, or why it is refused; *future is there either way. */
static cf_status cf__future_make(cf_executor *executor, cf_task_fn *fn, const void *arg,
                                 size_t arg_size, const cf_submit_options *options, bool lend,
                                 cf_future **future)
{
    cf_status status = cf__check(executor, fn, arg);
    *future = status == CF_OK ? cf__future_take(&executor->heap) : NULL;
    if (*future == NULL) {
        if (status == CF_OK) status = cf__refusal(executor); /* closed: by a map that outlives it */
        if (status == CF_OK) status = CF_NO_MEMORY;
        if (options != NULL && options->free_arg != NULL) options->free_arg((void *)(uintptr_t)arg);
        *future = cf__static_future(status);
        return status;
    }
    return cf__future_call(*future, fn, arg, arg_size, options, lend) ? CF_OK : CF_NO_MEMORY;
}

/* Under the tail's lock: the future goes straight to the worker that spins, if nothing is before it
 * in the ring. */
static bool cf__hand(cf_executor *executor, uintptr_t tail, cf_future *future)
{
    cf__heap *const heap = &executor->heap;
    uintptr_t seen = cf__load_relaxed(&executor->spinner);
    if (seen != CF__SPINS) return false;
    if (heap->head_seen != tail) heap->head_seen = cf__load_acquire(&executor->head);
    return heap->head_seen == tail && cf__cas(&executor->spinner, &seen, (uintptr_t)future);
}

/* In every other case. */
CF__SLOW cf_status cf__submit_any(cf_executor *executor, cf_task_fn *fn, const void *arg,
                                  size_t arg_size, const cf_submit_options *options,
                                  cf_future **future)
{
    const bool lend = executor != NULL && cf__processes_of(executor) != NULL;
    const cf_status refused = cf__future_make(executor, fn, arg, arg_size, options, lend, future);
    return refused != CF_OK ? refused : cf__schedule(executor, future, 1);
}

/* From outside, small, without a limit or an observer: all under one lock. */
CF__SLOW cf_status cf__submit_fast(cf_executor *executor, cf_task_fn *fn, const void *arg,
                                   size_t arg_size, const cf_submit_options *options,
                                   cf_future **future)
{
    cf__heap *const heap = &executor->heap;
    cf__prefetch(&executor->spinner);
    uintptr_t tail = cf__heap_lock(heap);
    const bool open = cf__load_relaxed(&executor->closing) == 0;
    *future = open && cf__ring_has_room(executor, tail, 1) ? cf__heap_pop_locked(heap) : NULL;
    if (*future == NULL) {
        cf__heap_unlock(heap, tail);
        return cf__submit_any(executor, fn, arg, arg_size, options, future);
    }
    (void)cf__future_call(*future, fn, arg, arg_size, options, false);
    heap->submitted++;
    const bool handed = cf__hand(executor, tail, *future);
    if (!handed) {
        *cf__ring_slot(executor->ring, executor->capacity, tail) = *future;
        tail += CF__STEP;
    }
    cf__heap_unlock(heap, tail);
    return handed ? CF_OK : cf__announce(executor);
}

/* By a worker, small, without a limit or an observer. */
CF__HOT cf_status cf__submit_child(cf__worker *worker, cf_task_fn *fn, const void *arg,
                                   size_t arg_size, const cf_submit_options *options,
                                   cf_future **future)
{
    cf_executor *const executor = worker->executor;
    *future = cf__spare_take(cf__self);
    if (*future == NULL) return cf__submit_any(executor, fn, arg, arg_size, options, future);
    (void)cf__future_call(*future, fn, arg, arg_size, options, false);
    return cf__enqueue_child(worker, *future) ? CF_OK : cf__schedule(executor, future, 1);
}

/* Makes a future and queues it. */
static cf_status cf__submit(cf_executor *executor, cf_task_fn *fn, const void *arg, size_t arg_size,
                            const cf_submit_options *options, cf_future **future)
{
    const size_t room = options == NULL ? CF__INLINE : CF__INLINE_WITH_OPTIONS;
    if (executor == NULL || fn == NULL || arg_size > room || executor->bounded ||
        cf__processes_of(executor) != NULL || cf__is_foreign_heap(&executor->heap) ||
        executor->heap.observer != NULL)
        return cf__submit_any(executor, fn, arg, arg_size, options, future);
    cf__worker *const worker = cf__self_worker(executor);
    if (worker == NULL) return cf__submit_fast(executor, fn, arg, arg_size, options, future);
    return CF__SMALL ? cf__submit_any(executor, fn, arg, arg_size, options, future)
                     : cf__submit_child(worker, fn, arg, arg_size, options, future);
}

CFUTURES_API cf_future *cf_executor_submit_with(cf_executor *executor, cf_task_fn *fn,
                                                const void *arg, size_t arg_size,
                                                const cf_submit_options *options)
{
    cf_future *future;
    if (arg_size > 0 && (arg == NULL || (options != NULL && options->free_arg != NULL)))
        return cf__static_future(CF_INVALID);
    (void)cf__submit(executor, fn, arg, arg_size, options, &future);
    return future;
}

CFUTURES_API cf_future *cf_executor_submit(cf_executor *executor, cf_task_fn *fn, const void *arg,
                                           size_t arg_size)
{
    return cf_executor_submit_with(executor, fn, arg, arg_size, NULL);
}

/* items[i]; without a size every item is `items` itself, which may be NULL. */
static void *cf__item(const char *items, size_t i, size_t item_size)
{
    return (void *)(uintptr_t)(item_size > 0 ? items + i * item_size : items);
}

/* count * size bytes, which are there. */
static bool cf__is_array(const void *array, size_t count, size_t size)
{
    const size_t bytes = cf__size(0, count, size);
    return bytes == 0 || (bytes != SIZE_MAX && array != NULL);
}

CFUTURES_API cf_status cf_executor_submit_many(cf_executor *executor, cf_task_fn *fn,
                                               const void *items, size_t count, size_t item_size,
                                               cf_future **futures)
{
    if (futures == NULL || cf__size(0, count, sizeof *futures) == SIZE_MAX) return CF_INVALID;
    cf_status status = cf__is_array(items, count, item_size) ? CF_OK : CF_INVALID;
    size_t made = 0; /* those before it are whole */
    for (; made < count && status == CF_OK; made++)
        status = cf__future_make(executor, fn, cf__item(items, made, item_size), item_size, NULL,
                                 false, &futures[made]);
    for (size_t i = made; i < count; i++) futures[i] = cf__static_future(status);
    if (status != CF_OK && made > 0) made--; /* that one is refused already */
    cf_status first = CF_OK;
    for (size_t i = 0, step; i < made; i += step) {
        step = executor->bounded ? 1 : made;
        const cf_status refused = cf__schedule(executor, futures + i, step);
        if (first == CF_OK) first = refused;
    }
    return first != CF_OK ? first : status;
}

/* ---- shutdown ---- */

/* What ends the wait: the last worker and the last visitor left, or the deadline. */
static cf_status cf__await_left(cf_executor *executor, int64_t deadline)
{
    for (cf_status status = CF_OK;;) {
        cf__lock(&executor->lock);
        const uintptr_t seen = cf__load_relaxed(&executor->left);
        const bool left = cf__is_left(executor);
        cf__unlock(&executor->lock);
        if (left || status != CF_OK) return left ? CF_OK : status;
        status = cf__await_pool(executor, &executor->left, seen, deadline);
    }
}

/* All threads have said their last word; what ends each join is the end of the thread. */
static void cf__join_workers(cf_executor *executor, const cf__worker *last)
{
    CFUTURES_TEST_POINT(CF__POINT_JOIN);
    cf__lock(&executor->join_lock);
    const cf__processes *const processes = cf__processes_of(executor);
    if (processes != NULL && !executor->joined) processes->join(executor);
    for (size_t i = 0; i < executor->started && !executor->joined; i++) {
        cf__worker *const worker = executor->workers[i];
        if (worker == last) cf__thread_detach(worker->thread);
        else cf__thread_join(worker->thread);
    }
    executor->joined = true;
    cf__unlock(&executor->join_lock);
}

/* Everything but the heap, which goes with its last future. `last`: the worker that does it, or
 * NULL. */
static void cf__executor_free(cf_executor *executor, cf__worker *last)
{
    cf__join_workers(executor, last);
    CFUTURES_TEST_POINT(CF__POINT_FREE_ALL);
    if (cf__processes_of(executor) != NULL) executor->processes->end(executor);
    cf__lock(&executor->lock); /* who submitted the task that closed it may still look at workers */
    const size_t started = executor->started;
    executor->started = 0;
    cf__unlock(&executor->lock);
    for (size_t i = 0; i < started; i++) cf__free_lines(executor->workers[i]);
    cf__free((void *)executor->workers);
    cf__free((void *)executor->ring);
    cf__heap_close(&executor->heap);
}

/* As a visitor: another shutdown waits for the callbacks and free functions that run here. */
static void cf__cancel_all(cf_executor *executor)
{
    cf__visit visit;
    cf__visit_enter(&visit, executor);
    cf__withdraw(executor, CF_CANCELLED);
    cf__visit_end(&visit);
}

CFUTURES_API cf_status cf_executor_shutdown(cf_executor *executor, cf_duration timeout,
                                            cf_shutdown_mode mode)
{
    if (executor == NULL || mode < CF_RUN_PENDING || mode > CF_CANCEL_PENDING) return CF_INVALID;
    if (cf__is_foreign_heap(&executor->heap)) return CF_FORKED;
    const int64_t deadline = cf__deadline(timeout);
    cf__close_door(executor, CF__CLOSING);
    if (mode == CF_CANCEL_PENDING) cf__cancel_all(executor);
    if (cf__processes_of(executor) != NULL) executor->processes->closing(executor);
    if (cf__is_inside(executor)) return timeout == 0 ? CF_TIMEOUT : CF_DEADLOCK;
    const cf_status status = cf__await_left(executor, deadline);
    if (status == CF_OK) cf__join_workers(executor, NULL);
    return status;
}

CFUTURES_API void cf_executor_close(cf_executor *executor)
{
    if (executor == NULL) return;
    cf_status status = cf_executor_shutdown(executor, CF_FOREVER, CF_RUN_PENDING);
    if (status == CF_FORKED) { /* the parent's threads are not here, nor is their state sound */
        executor->joined = true;
        cf__store_relaxed(&executor->join_lock, 0);
        cf__store_relaxed(&executor->lock, 0);
        cf__store_relaxed(&executor->heap.tail, 0);
        status = CF_OK;
    }
    if (status == CF_DEADLOCK) {
        CFUTURES_TEST_POINT(CF__POINT_ORPHAN);
        cf__lock(&executor->lock);
        executor->orphaned = !cf__is_left(executor);
        if (!executor->orphaned) status = CF_OK;
        cf__unlock(&executor->lock);
    }
    if (status == CF_OK) cf__executor_free(executor, NULL);
}

/* ---- make ---- */

/* The options have passed, so the status is CF_OK, or CF_NO_MEMORY. */
static cf_executor *cf__executor_new(const cf_pool_options *options, cf_status *status)
{
    const size_t workers = options->max_workers;
    cf__worker **const table = cf__alloc(cf__size(0, workers, sizeof *table));
    cf_executor *const executor = table != NULL ? cf__alloc_lines(sizeof *executor) : NULL;
    *status = executor != NULL ? CF_OK : CF_NO_MEMORY;
    if (executor == NULL) {
        cf__free((void *)table);
        return NULL;
    }
    memset(executor, 0, sizeof *executor);
    executor->workers = table;
    executor->options = *options;
    executor->max_workers = workers;
    executor->bounded = options->queue_limit > 0 || workers == 0;
    const size_t stack = cf__thread_stack(options->stack_size);
    executor->stack_room = stack != 0 ? stack / 2 : CF__STACK_ROOM;
    executor->cpus = cf_cpu_count();
    const char *const name = options->name != NULL ? options->name : "cf";
    strncpy(executor->name, name, sizeof executor->name - 1);
    executor->heap.whole = executor;
    executor->heap.options = &executor->options;
    if (options->observer != NULL) {
        executor->observer = *options->observer;
        executor->options.observer = executor->heap.observer = &executor->observer;
    }
    cf__store_relaxed(&executor->heap.handed, 1); /* the executor itself */
    cf__watch_forks();
    executor->heap.forks = cf__load_relaxed(&cf__forks);
    cf__store_relaxed(&executor->spin, CF__SPIN_MOST);
    cf__store_relaxed(&executor->hungry, 1);
    cf__parking_init();
    return executor;
}

#define CF__MOST_WORKERS ((size_t)1 << 20) /* more is a mistake, and its table a waste */

/* Defaults and ranges of a thread pool's options. */
static cf_status cf__thread_options(cf_pool_options *options)
{
    if (options->start_method != CF_START_FORK || options->max_tasks_per_child != 0 ||
        options->break_on_crash || options->kill_grace != 0 || options->on_full < CF_FULL_BLOCK ||
        options->on_full > CF_FULL_CALLER_RUNS || options->max_workers > CF__MOST_WORKERS ||
        options->queue_limit > PTRDIFF_MAX || !cf__thread_stack_fit(&options->stack_size))
        return CF_INVALID;
    if (options->max_workers == 0) {
        const size_t cpus = cf_cpu_count();
        options->max_workers = cpus + 4 < 32 ? cpus + 4 : 32;
    }
    return CF_OK;
}

CFUTURES_API cf_executor *cf_thread_pool_new(const cf_pool_options *options, cf_status *status)
{
    cf_status unwanted;
    if (status == NULL) status = &unwanted;
    cf_pool_options own;
    memset(&own, 0, sizeof own);
    if (options != NULL) own = *options;
    *status = cf__thread_options(&own);
    return *status == CF_OK ? cf__executor_new(&own, status) : NULL;
}

CFUTURES_API cf_executor *cf_inline_executor_new(cf_status *status)
{
    cf_status unwanted;
    cf_pool_options own;
    memset(&own, 0, sizeof own);
    own.on_full = CF_FULL_CALLER_RUNS;
    return cf__executor_new(&own, status != NULL ? status : &unwanted);
}

/* ---- stats ---- */

static void cf__stats_locked(cf_executor *executor, cf_stats *out)
{
    out->workers = executor->alive;
    out->submitted = executor->heap.submitted - executor->refused;
    out->cancelled = executor->cancelled;
    /* [stats] What is part of something else is read before it, so it is never more. */
    out->failed = cf__load_acquire(&executor->caller_failed);
    out->finished = cf__load_acquire(&executor->caller_finished);
    uint64_t started = cf__load_relaxed(&executor->caller_started);
    for (size_t i = 0; i < executor->started; i++) {
        cf__worker *const worker = executor->workers[i];
        out->failed += cf__load_acquire(&worker->failed);
        out->finished += cf__load_acquire(&worker->finished);
        started += cf__load_relaxed(&worker->started);
        const uintptr_t state = cf__load_acquire(&worker->state);
        if (state == CF__FREE || state == CF__ASLEEP) out->idle++;
    }
    out->idle += cf__load_relaxed(&executor->beginning);
    for (size_t i = 0; i < executor->started; i++)
        out->submitted += cf__load_relaxed(&executor->workers[i]->submitted);
    if (executor->starting) { /* those that are wanted but must wait their turn */
        const size_t pending = cf__pending(executor);
        const size_t missing = pending > out->idle ? pending - out->idle : 0;
        const size_t room = executor->max_workers - executor->alive;
        out->workers += missing < room ? missing : room;
    }
    const uint64_t gone = started + executor->cancelled + executor->withdrawn;
    out->running = started > out->finished ? (size_t)(started - out->finished) : 0;
    out->queued = out->submitted > gone ? (size_t)(out->submitted - gone) : 0;
}

CFUTURES_API void cf_executor_stats(cf_executor *executor, cf_stats *out)
{
    if (out == NULL) return;
    memset(out, 0, sizeof *out);
    if (executor == NULL || cf__is_foreign_heap(&executor->heap)) return;
    const uintptr_t tail = cf__lock_both(executor);
    if (cf__processes_of(executor) != NULL) executor->processes->stats(executor, out);
    else cf__stats_locked(executor, out);
    cf__unlock_both(executor, tail);
}

/* ---------------------------------------------------------------------------------------------
 * map                                                                                    >>map
 *
 * The iterator cuts the items into chunks; a chunk is one task. It holds copies of its items and a
 * cell for the outcome of each, so that errors stay with their item. It has two owners, the
 * iterator and the task, and goes with the second: closing an iterator waits for nobody.
 *
 * map_array needs no chunks. Its tasks, at most one a worker, share the index range out among
 * themselves: each takes units from the front of its own range and, when that is empty, half of
 * another's from the back, by compare-and-swap on one word that holds both ends. A range that was
 * taken never comes back, so a word never returns to an earlier value.
 * --------------------------------------------------------------------------------------------- */

typedef struct cf__chunk {
    cf__member  member;   /* first: in the iterator's set */
    cf__word    owners;
    cf_future  *future;   /* iterator: its reference; goes with the chunk */
    cf_task_fn *fn;
    size_t      first, count; /* of items, by index in the whole input */
    size_t      delivered;    /* items: iterator */
    size_t      ended;        /* items whose cells are filled: process pool */
    bool        has_run;      /* W: who ran it, before it gives its share back: ask the cells */
    bool        hurt;         /* a worker died with one of its items: process pool */
    bool        passed;       /* iterator: counted in its `passed_items` */
    cf__word    ran;          /* W: who fills the cells. R: iterator. So many are filled */
    size_t      stride, item_size;
    char       *items; /* count * stride bytes behind the cells; or the caller's, with stride 0 */
    cf__cell    cells[];
} cf__chunk;

struct cf_map_iter {
    cf_executor   *executor;
    cf_task_fn    *fn;
    const char    *items;
    char          *copy;    /* of an array that is not yet submitted whole */
    size_t         item_size;
    size_t         count;   /* at most */
    size_t         pulled, outstanding; /* items submitted; of those, not yet delivered */
    bool           exhausted, ended;
    bool           holds;    /* the executor's memory */
    cf_status      shortage; /* why the rest could not be submitted; reported once, at the end */
    cf__chunk     *current;  /* delivers its items */
    /* progress: those before `ahead` that are not delivered have ended, with so many items */
    cf__member    *ahead;    /* NULL: none is left */
    size_t         passed_items, delivered, progress;
    /* of the item just delivered or failed */
    cf__cell      *cell;     /* NULL: there is none */
    size_t         index;
    cf_status      status;
    int64_t        deadline;
    cf_map_options options; /* defaults applied */
    cf__set        set;     /* chunks not yet current; only an unordered map waits for any */
};

/* ---- one item of a map ---- */

/* Runs fn for an item inside a task that stands for many. */
static void cf__item_run(cf_task *outer, cf_task_fn *fn, void *item, size_t item_size,
                         cf__cell *cell)
{
    cf_task task;
    cf__task_begin(&task, outer->executor, outer->marks, outer->worker, item_size);
    task.stop = outer->stop;
    const int code = fn(&task, item);
    cf__task_finish(&task, code, cell);
}

/* ---- chunks ---- */

/* A future of its own for an item, which gets what the cell holds. Without memory it says so. */
static cf_future *cf__item_future(cf__cell *cell)
{
    cf_future *const item = cf_future_new();
    if (item == NULL) return cf__static_future(CF_NO_MEMORY);
    item->cell = *cell;
    if (cell->data == cell->local) item->cell.data = item->cell.local;
    cell->call.free_result = NULL;
    cf__store_relaxed(&item->word, CF__DONE);
    return item;
}

/* Somebody who cares hears of each failed item that nobody looked at. */
static void cf__chunk_report(cf__chunk *chunk)
{
    const cf__heap *const heap = chunk->future->home;
    if (heap == NULL || heap->options->on_unread_error == NULL) return;
    const signed char whole = chunk->has_run ? CF_OK : chunk->future->cell.status;
    for (size_t i = chunk->delivered; i < chunk->count; i++) {
        cf__cell *const cell = &chunk->cells[i];
        if (whole != CF_OK) cell->status = whole;
        if (!cf__cell_has_failed(cell)) continue;
        cf_future *const item = cf__item_future(cell);
        heap->options->on_unread_error(item, heap->options->user);
        cf_future_release(item);
    }
}

static void cf__chunk_release(void *memory)
{
    cf__chunk *const chunk = memory;
    CFUTURES_TEST_POINT(CF__POINT_CHUNK_GO);
    if (cf__fetch_add(&chunk->owners, 0 - (uintptr_t)1) != 1) return;
    cf__chunk_report(chunk);
    for (size_t i = 0; i < chunk->count; i++) cf__cell_clear(&chunk->cells[i]);
    cf_future_release(chunk->future);
    cf__free_lines(chunk);
}

static cf__chunk *cf__chunk_new(const cf_map_iter *iter, size_t count)
{
    const size_t align = _Alignof(max_align_t);
    const size_t stride = (iter->item_size + align - 1) / align * align;
    const size_t cells = cf__size(sizeof(cf__chunk), count, sizeof(cf__cell));
    cf__chunk *const chunk = cf__alloc_lines(cf__size(cells, count, stride));
    if (chunk == NULL) return NULL;
    memset(chunk, 0, sizeof *chunk);
    chunk->fn = iter->fn;
    chunk->first = iter->pulled;
    chunk->stride = stride;
    chunk->item_size = iter->item_size;
    chunk->items = stride > 0 ? (char *)chunk + cells : (char *)(uintptr_t)iter->items;
    for (size_t i = 0; i < count; i++) cf__cell_init(&chunk->cells[i]);
    return chunk;
}

/* The task of a chunk. Cancelled while it runs, it leaves the rest of its items alone. */
static int cf__chunk_main(cf_task *task, void *arg)
{
    cf__chunk *const chunk = arg;
    for (size_t i = 0; i < chunk->count && (i == 0 || !cf_task_stop_requested(task)); i++) {
        cf__item_run(task, chunk->fn, cf__item(chunk->items, i, chunk->stride), chunk->item_size,
                     &chunk->cells[i]);
        cf__store_relaxed(&chunk->ran, i + 1); /* a counter only */
    }
    chunk->has_run = true;
    return 0;
}

/* How a chunk went from item `first` on: how many ran, and the first of them that failed. */
static void cf__chunk_event(const cf__chunk *chunk, size_t first, cf_event *event)
{
    event->items = 0;
    for (size_t i = first; i < chunk->count; i++) {
        const cf__cell *const cell = &chunk->cells[i];
        event->items += cell->status != CF_CANCELLED;
        if (!cf__cell_has_failed(cell) || event->status != CF_OK) continue;
        event->status = (cf_status)cell->status;
        event->code = cell->code;
        event->message = cf__cell_message(cell);
    }
    if (event->status == CF_OK && event->items < chunk->count - first) event->status = CF_CANCELLED;
}

/* ---- iterator ---- */

/* One more item, within the count. False: the generator has no more. */
static bool cf__map_pull(cf_map_iter *iter, void *item)
{
    const size_t size = iter->item_size;
    if (iter->options.next_item != NULL) return iter->options.next_item(item, iter->options.user);
    if (size > 0) memcpy(item, cf__item(iter->items, iter->pulled, size), size);
    return true;
}

static void cf__map_submit(cf_map_iter *iter, cf__chunk *chunk)
{
    /* The task's share is given back by its free_arg, whatever happens. */
    const cf_submit_options options = {cf__chunk_release, 0};
    cf_future *future;
    cf__store_relaxed(&chunk->owners, 2);
    CFUTURES_TEST_POINT(CF__POINT_CHUNK);
    const cf_status status =
        cf__submit(iter->executor, cf__chunk_main, chunk, 0, &options, &future);
    /* With CF_SYSTEM it may run nevertheless: see cf__enqueue. */
    const bool refused =
        status != CF_OK && cf__is_done(future) && future->cell.status == (signed char)status;
    chunk->future = future;
    (void)cf__fetch_or(&future->refs, CF__READ); /* the items report themselves */
    if (refused && iter->options.next_item != NULL) {
        iter->exhausted = true;
        chunk->count = 1;
        iter->pulled = chunk->first + 1;
    }
    iter->outstanding += chunk->count;
    CFUTURES_TEST_POINT(CF__POINT_CHUNK_LINK);
    chunk->member.arrived = true; /* an ordered map waits for the future, not for the set */
    if (iter->options.unordered) cf__set_add(&iter->set, &chunk->member, future, 0);
    else cf__set_link(&iter->set, &chunk->member);
    if (iter->ahead == NULL) iter->ahead = &chunk->member;
}

/* How many items the next chunk takes. */
static size_t cf__map_room(const cf_map_iter *iter)
{
    size_t size = iter->options.chunksize;
    if (size > iter->count - iter->pulled) size = iter->count - iter->pulled;
    const size_t buffer = iter->options.buffersize;
    return buffer == 0 || iter->outstanding + size <= buffer ? size : 0;
}

static void cf__map_fill(cf_map_iter *iter)
{
    for (size_t room; !iter->exhausted && (room = cf__map_room(iter)) > 0;) {
        cf__chunk *const chunk = cf__chunk_new(iter, room);
        if (chunk == NULL) {
            iter->exhausted = true;
            iter->shortage = CF_NO_MEMORY;
            return;
        }
        while (chunk->count < room &&
               cf__map_pull(iter, cf__item(chunk->items, chunk->count, chunk->stride))) {
            chunk->count++;
            iter->pulled++;
        }
        if (chunk->count < room) iter->exhausted = true;
        if (chunk->count > 0) cf__map_submit(iter, chunk);
        else cf__free_lines(chunk);
    }
}

static bool cf__are_items(const cf_map_options *options, const void *items, size_t count,
                          size_t size)
{
    if (options->next_item != NULL) return items == NULL && size <= PTRDIFF_MAX;
    return cf__is_array(items, count, size);
}

/* An array that is submitted bit by bit is copied first: the caller's may go after the call. */
static bool cf__map_keep(cf_map_iter *iter)
{
    const size_t bytes = iter->count * iter->item_size;
    if (iter->options.next_item != NULL || iter->options.buffersize == 0 || bytes == 0) return true;
    iter->items = iter->copy = cf__copy_of(iter->items, bytes);
    return iter->copy != NULL;
}

static const cf_map_options cf__no_map_options;

CFUTURES_API cf_map_iter *cf_executor_map(cf_executor *executor, cf_task_fn *fn, const void *items,
                                          size_t count, size_t item_size,
                                          const cf_map_options *options)
{
    cf_map_iter *const iter = cf__alloc(sizeof *iter);
    if (iter == NULL) return NULL;
    memset(iter, 0, sizeof *iter);
    cf__set_init(&iter->set);
    iter->holds = executor != NULL && !cf__is_foreign_heap(&executor->heap);
    if (iter->holds) cf__heap_hold(&executor->heap); /* the iterator may outlive it */
    iter->executor = executor;
    iter->fn = fn;
    iter->items = items;
    iter->count = count;
    iter->item_size = item_size;
    if (options != NULL) iter->options = *options;
    cf_map_options *const own = &iter->options;
    if (own->next_item != NULL && count == 0) iter->count = SIZE_MAX;
    if (own->chunksize == 0) own->chunksize = 1;
    if (own->buffersize != 0 && own->chunksize > own->buffersize) own->chunksize = own->buffersize;
    iter->deadline = own->timeout != 0 ? cf__deadline(own->timeout) : CF__NEVER;
    if (executor != NULL && fn != NULL && cf__are_items(own, items, count, item_size) &&
        cf__map_keep(iter)) {
        cf__map_fill(iter);
        if (iter->shortage == CF_OK) return iter;
    }
    cf_map_close(iter);
    return NULL;
}

static void cf__map_cancel(cf_map_iter *iter)
{
    iter->ended = true;
    iter->shortage = CF_OK;
    /* The newest first: no worker gets ahead to one of them by what is cancelled before it. */
    for (cf__member *member = iter->set.last; member != NULL; member = member->previous)
        (void)cf_future_cancel(((cf__chunk *)member)->future);
    if (iter->current != NULL) (void)cf_future_cancel(iter->current->future);
}

/* The chunk to deliver from next becomes current. CF_END: there is none. */
static cf_status cf__map_advance(cf_map_iter *iter)
{
    cf_status status = CF_OK;
    cf__member *member = iter->set.members;
    if (member == NULL) return CF_END;
    if (iter->options.unordered) {
        member = cf__set_next(&iter->set, iter->deadline, &status);
    } else {
        status = cf__await(((cf__chunk *)member)->future, iter->deadline);
        if (status == CF_OK) cf__set_unlink(&iter->set, member);
    }
    if (status != CF_OK) return status;
    iter->current = (cf__chunk *)member;
    if (iter->ahead == member) iter->ahead = member->next;
    if (iter->current->passed) iter->passed_items -= iter->current->count;
    return CF_OK;
}

/* The item that was delivered last goes, and with its last item the chunk. */
static void cf__map_drop(cf_map_iter *iter)
{
    cf__chunk *const chunk = iter->current;
    if (iter->cell != NULL) cf__cell_clear(iter->cell);
    iter->cell = NULL;
    if (chunk == NULL || chunk->delivered < chunk->count) return;
    iter->current = NULL;
    cf__chunk_release(chunk);
}

static cf_status cf__map_finish(cf_map_iter *iter, cf_status why)
{
    if (why == CF_TIMEOUT) cf__map_cancel(iter);
    if (why != CF_END) return why;
    iter->ended = true;
    if (iter->shortage == CF_OK) return CF_END;
    iter->index = iter->pulled;
    why = iter->shortage;
    iter->shortage = CF_OK;
    return why;
}

/* To the next item. Returns its status, or why there is none. */
CF__SHARED cf_status cf__map_step(cf_map_iter *iter)
{
    cf__map_drop(iter);
    cf_status why = CF_OK;
    if (iter->ended) why = CF_END;
    else if (iter->current == NULL) why = cf__map_advance(iter);
    if (why != CF_OK) return cf__map_finish(iter, why);
    cf__chunk *const chunk = iter->current;
    const size_t i = chunk->delivered++;
    iter->index = chunk->first + i;
    iter->outstanding--;
    iter->delivered++;
    why = (cf_status)chunk->future->cell.status;
    if (why == CF_OK) {
        iter->cell = &chunk->cells[i];
        why = (cf_status)iter->cell->status;
    }
    if (why != CF_OK && iter->options.stop_on_error) cf__map_cancel(iter);
    else cf__map_fill(iter);
    return why;
}

CFUTURES_API const void *cf_map_next(cf_map_iter *iter, cf_status *status)
{
    cf_status unwanted;
    if (status == NULL) status = &unwanted;
    *status = CF_INVALID;
    if (iter == NULL) return NULL;
    *status = iter->status = cf__map_step(iter);
    return *status == CF_OK ? iter->cell->data : NULL;
}

CFUTURES_API size_t cf_map_index(const cf_map_iter *iter) { return iter != NULL ? iter->index : 0; }

CFUTURES_API size_t cf_map_result_size(const cf_map_iter *iter)
{
    return iter != NULL && iter->cell != NULL ? iter->cell->size : 0; /* of a failed one: 0 */
}

CFUTURES_API int cf_map_error_code(const cf_map_iter *iter)
{
    return iter != NULL && iter->cell != NULL ? iter->cell->code : 0;
}

CFUTURES_API const char *cf_map_error_message(const cf_map_iter *iter)
{
    if (iter == NULL) return cf_strerror(CF_INVALID);
    if (iter->cell != NULL) return cf__cell_message(iter->cell);
    return iter->status >= 0 ? "" : cf_strerror(iter->status);
}

/* ---- progress ---- */

#define CF__LOOK_AHEAD 256 /* chunks that have not ended are looked at, at most */

/* Items of a chunk that has not ended which have. */
static size_t cf__chunk_progress(cf_executor *executor, cf__chunk *chunk)
{
    size_t ran = (size_t)cf__load_relaxed(&chunk->ran);
    if (cf__processes_of(executor) != NULL) ran += executor->processes->progress(chunk->future);
    return ran < chunk->count ? ran : chunk->count;
}

/* Items of chunks that were not delivered yet which have ended. */
static size_t cf__map_ahead(cf_map_iter *iter)
{
    for (; iter->ahead != NULL; iter->ahead = iter->ahead->next) {
        cf__chunk *const chunk = (cf__chunk *)iter->ahead;
        if (!cf__is_done(chunk->future)) break;
        chunk->passed = true;
        iter->passed_items += chunk->count;
    }
    size_t items = iter->passed_items;
    int left = CF__LOOK_AHEAD;
    for (cf__member *at = iter->ahead; at != NULL && left > 0; at = at->next) {
        cf__chunk *const chunk = (cf__chunk *)at;
        const bool done = cf__is_done(chunk->future);
        items += done ? chunk->count : cf__chunk_progress(iter->executor, chunk);
        left -= !done;
    }
    return items;
}

CFUTURES_API size_t cf_map_progress(cf_map_iter *iter, size_t *total)
{
    if (total != NULL) *total = 0;
    if (iter == NULL) return 0;
    const bool all = iter->options.next_item == NULL && !iter->exhausted;
    const bool whole = iter->exhausted || iter->pulled == iter->count;
    if (total != NULL) *total = all ? iter->count : whole ? iter->pulled : 0;
    size_t items = iter->delivered + cf__map_ahead(iter);
    if (iter->current != NULL) items += iter->current->count - iter->current->delivered;
    if (items > iter->progress) iter->progress = items;
    return iter->progress;
}

CFUTURES_API void cf_map_close(cf_map_iter *iter)
{
    if (iter == NULL) return;
    cf__map_cancel(iter);
    CFUTURES_TEST_POINT(CF__POINT_MAP_CLOSE);
    cf__set_close(&iter->set);
    for (cf__member *member = iter->set.members, *next; member != NULL; member = next) {
        next = member->next;
        cf__chunk_release(member);
    }
    if (iter->current != NULL) cf__chunk_release(iter->current);
    cf__free(iter->copy);
    if (iter->holds) cf__heap_count_back(&iter->executor->heap, 1);
    cf__free(iter);
}

/* ---- map_array ---- */

#define CF__HALF (sizeof(uintptr_t) * CHAR_BIT / 2)
#define CF__HALF_MAX (((uintptr_t)1 << CF__HALF) - 1)

/* One of the tasks, and what it has to do. */
typedef struct cf__part {
    _Alignas(CF__LINE) cf__word ends; /* low half: next unit; high half: behind the last */
    cf_future *future; /* caller */
    cf__member member; /* caller */
} cf__part;

typedef struct cf__sweep {
    /* frozen */
    cf_executor *executor;
    cf_task_fn  *fn;
    const char  *items;
    char        *results; /* not NULL */
    size_t       item_size, result_size, count;
    size_t       unit, units; /* items taken at once; how many times */
    size_t       part_count;
    bool         stop_on_error;
    int64_t      deadline;
    /* free-standing */
    cf__word next_part, inside;
    cf__word stop; /* no more items; also when whoever came found none, and all are out again */
    cf__word lock; /* guards: */
    size_t    failed;
    size_t    skipped; /* the first item that was left out; count: none */
    cf_status status;
    cf__part  parts[];
} cf__sweep;

static uintptr_t cf__ends(uintptr_t low, uintptr_t high) { return low | high << CF__HALF; }
static uintptr_t cf__low(uintptr_t ends) { return ends & CF__HALF_MAX; }
static uintptr_t cf__high(uintptr_t ends) { return ends >> CF__HALF; }

CF__SHARED size_t cf__unit_begin(const cf__sweep *sweep, uintptr_t unit)
{
    return unit < sweep->units ? (size_t)unit * sweep->unit : sweep->count;
}

/* These items fail; CF_OK: they are left out, for a reason that cf__sweep_finish knows. */
CF__COLD void cf__sweep_fail(cf__sweep *sweep, size_t first, size_t end, cf_status status)
{
    memset(sweep->results + first * sweep->result_size, 0, (end - first) * sweep->result_size);
    cf__lock(&sweep->lock);
    if (status == CF_OK) {
        if (first < sweep->skipped) sweep->skipped = first;
    } else if (sweep->status == CF_OK || first < sweep->failed) {
        sweep->failed = first;
        sweep->status = status;
    }
    cf__unlock(&sweep->lock);
    if (status != CF_OK && sweep->stop_on_error) cf__store_release(&sweep->stop, 1);
}

/* What an item left behind that is more than a result of full size. */
CF__SLOW void cf__sweep_item_end(cf__sweep *sweep, cf_task *task, size_t index, int code)
{
    cf__free(task->message);
    task->message = NULL;
    if (code != 0 || task->refused != CF_OK) {
        if (task->refused == CF_OK) task->refused = CF_TASK_FAILED;
        cf__sweep_fail(sweep, index, index + 1, task->refused);
        if (task->mishap == CF_OK) {
            task->mishap = task->refused;
            task->mishap_code = code;
        }
        task->refused = CF_OK;
    } else if (task->size < sweep->result_size) {
        memset((char *)task->into + task->size, 0, sweep->result_size - task->size);
    }
}

static void cf__sweep_unit(cf__sweep *sweep, cf_task *task, uintptr_t unit, void *item)
{
    const size_t end = cf__unit_begin(sweep, unit + 1), result_size = sweep->result_size;
    const size_t item_size = sweep->item_size;
    size_t i = cf__unit_begin(sweep, unit);
    const size_t begin = i;
    cf_task_fn *const fn = sweep->fn;
    const char *from = cf__item(sweep->items, i, item_size);
    task->into = sweep->results + i * result_size;
    for (; i < end && cf__load_relaxed(&sweep->stop) == 0; i++) {
        cf__copy(item, from, item_size);
        from += item_size;
        task->size = 0;
        const int code = fn(task, item);
        if (((code != 0) | (task->refused != CF_OK) | (task->message != NULL) |
             (task->size != result_size)) != 0) /* as one branch */
            cf__sweep_item_end(sweep, task, i, code);
        task->into = (char *)task->into + result_size;
    }
    task->ran += i - begin;
    if (i < end) cf__sweep_fail(sweep, i, end, CF_OK);
    if (cf__is_past(sweep->deadline)) cf__store_release(&sweep->stop, 1);
}

/* A unit from the front of the own range. False: it is empty. */
static bool cf__part_take(cf__part *part, uintptr_t *unit)
{
    uintptr_t ends = cf__load_relaxed(&part->ends);
    while (cf__low(ends) < cf__high(ends)) {
        *unit = cf__low(ends);
        CFUTURES_TEST_POINT(CF__POINT_UNIT);
        if (cf__cas(&part->ends, &ends, ends + 1)) return true;
    }
    return false;
}

/* A unit from the middle of another's, and what is behind it into the own empty range. Were the
 * unit not run at once, thieves could pass it round for ever. */
static bool cf__part_steal(cf__sweep *sweep, size_t own, uintptr_t *unit)
{
    for (size_t i = 1; i < sweep->part_count; i++) {
        cf__word *const victim = &sweep->parts[(own + i) % sweep->part_count].ends;
        uintptr_t ends = cf__load_acquire(victim);
        while (cf__low(ends) < cf__high(ends)) {
            const uintptr_t high = cf__high(ends);
            const uintptr_t middle = cf__low(ends) + (high - cf__low(ends)) / 2;
            if (!cf__cas(victim, &ends, cf__ends(cf__low(ends), middle))) continue;
            CFUTURES_TEST_POINT(CF__POINT_HALF);
            cf__store_release(&sweep->parts[own].ends, cf__ends(middle + 1, high));
            *unit = middle;
            return true;
        }
    }
    return false;
}

/* One of the tasks. It may come late, and find nothing left. */
static int cf__sweep_main(cf_task *task, void *arg)
{
    cf__sweep *const sweep = arg;
    _Alignas(max_align_t) char small[64];
    void *const copy = sweep->item_size <= sizeof small ? small : cf__alloc(sweep->item_size);
    void *const item = sweep->item_size > 0 ? copy : (void *)(uintptr_t)sweep->items;
    task->stop = &sweep->stop;
    task->arg_size = sweep->item_size;
    task->room = sweep->result_size;
    task->ran = 0;
    task->mishap = copy != NULL ? CF_OK : CF_NO_MEMORY;
    task->mishap_code = 0;
    task->confined = true;
    (void)cf__fetch_add(&sweep->inside, 1);
    const size_t own = (size_t)cf__fetch_add(&sweep->next_part, 1);
    while (copy != NULL && cf__load_relaxed(&sweep->stop) == 0) {
        uintptr_t unit;
        if (!cf__part_take(&sweep->parts[own], &unit) && !cf__part_steal(sweep, own, &unit)) break;
        cf__sweep_unit(sweep, task, unit, item);
    }
    CFUTURES_TEST_POINT(CF__POINT_SWEPT);
    if (cf__fetch_add(&sweep->inside, 0 - (uintptr_t)1) == 1 && copy != NULL)
        cf__store_release(&sweep->stop, 1);
    if (copy != small) cf__free(copy);
    task->confined = false;
    cf__task_stage(task, task->local, 0, NULL);
    task->refused = copy != NULL ? CF_OK : CF_NO_MEMORY;
    return 0;
}

static void cf__event_of_items(const cf__cell *cell, cf_event *event)
{
    if (cell->call.fn == cf__chunk_main) {
        const cf__chunk *const chunk = cell->data;
        event->fn = chunk->fn;
        event->items = chunk->count - chunk->ended;
        if (event->kind != CF_EVENT_SUBMITTED) return;
        event->arg = cf__item(chunk->items, chunk->ended, chunk->stride);
        event->arg_size = chunk->item_size;
    } else if (cell->call.fn == cf__sweep_main) {
        event->fn = ((const cf__sweep *)cell->data)->fn;
        event->arg = NULL;
        event->items = 0;
    }
}

/* False: it is neither of the two, the outcome is the task's own. */
static bool cf__event_of_ended_items(const cf__cell *cell, const cf_task *task, cf_event *event)
{
    if (cell->call.fn == cf__chunk_main) {
        const cf__chunk *const chunk = cell->data;
        cf__chunk_event(chunk, 0, event);
        return true;
    }
    if (cell->call.fn != cf__sweep_main) return false;
    event->items = task->ran;
    event->status = task->mishap;
    event->code = task->mishap_code;
    if (task->mishap != CF_OK) event->message = cf_strerror(task->mishap);
    return true;
}

/* A worker that maps on its own pool takes part itself. */
static void cf__sweep_here(cf__sweep *sweep, size_t index)
{
    cf_task task;
    cf__word marks = 0;
    cf__task_begin(&task, sweep->executor, &marks, index, 0);
    (void)cf__sweep_main(&task, sweep);
}

/* Waits until the work is done or can not go on; then nobody touches the sweep any more. What ends
 * the second wait: each running task's current item; if that waits for us, its wait is made to
 * fail. */
static cf_status cf__sweep_await(cf__sweep *sweep, size_t tasks)
{
    cf_status status = CF_OK;
    cf__set set;
    cf__set_init(&set);
    for (size_t i = 0; i < tasks; i++)
        cf__set_add(&set, &sweep->parts[i].member, sweep->parts[i].future, i);
    while (status == CF_OK && cf__load_acquire(&sweep->stop) == 0)
        (void)cf__set_next(&set, sweep->deadline, &status);
    cf__set_close(&set);
    CFUTURES_TEST_POINT(CF__POINT_SWEEP);
    cf__store_release(&sweep->stop, 1);
    for (size_t i = 0; i < tasks; i++) {
        cf_future *const future = sweep->parts[i].future;
        (void)cf_future_cancel(future);
        while (cf__await(future, CF__NEVER) == CF_DEADLOCK && !cf__is_done(future)) {
            cf__deny(future);
            (void)cf__await(future, cf__deadline(CF_MILLISECOND));
        }
        cf__look(future);
    }
    return status == CF_END ? CF_OK : status;
}

/* What was left undone is zeros, and fails like the wait, or like the tasks. */
static void cf__sweep_finish(cf__sweep *sweep, size_t tasks, cf_status status)
{
    for (size_t i = 0; i < sweep->part_count; i++) {
        const uintptr_t ends = cf__load_relaxed(&sweep->parts[i].ends);
        if (cf__low(ends) < cf__high(ends))
            cf__sweep_fail(sweep, cf__unit_begin(sweep, cf__low(ends)),
                           cf__unit_begin(sweep, cf__high(ends)), CF_OK);
    }
    for (size_t i = 0; i < tasks; i++) {
        if (status == CF_OK) status = (cf_status)sweep->parts[i].future->cell.status;
        cf_future_release(sweep->parts[i].future);
    }
    const bool failed = sweep->status != CF_OK;
    if (sweep->skipped == sweep->count || (failed && sweep->stop_on_error) ||
        (failed && sweep->failed < sweep->skipped))
        return;
    sweep->failed = sweep->skipped;
    sweep->status = status != CF_OK ? status : CF_TIMEOUT; /* a task saw the deadline first */
}

/* Cuts the items up. NULL: out of memory. */
static cf__sweep *cf__sweep_new(cf_executor *executor, const cf_map_options *options, size_t count)
{
    const size_t most = count / CF__HALF_MAX + 1;
    const size_t unit = options->chunksize > most ? options->chunksize : most;
    const size_t units = (count - 1) / unit + 1;
    const size_t workers = executor->max_workers + (executor->max_workers == 0); /* the caller */
    const size_t parts = workers < units ? workers : units;
    const size_t bytes = cf__size(sizeof(cf__sweep), parts, sizeof(cf__part));
    cf__sweep *const sweep = cf__alloc_lines(bytes);
    if (sweep == NULL) return NULL;
    memset(sweep, 0, bytes);
    sweep->executor = executor;
    sweep->count = sweep->skipped = count;
    sweep->unit = unit;
    sweep->units = units;
    sweep->part_count = parts;
    sweep->stop_on_error = options->stop_on_error;
    sweep->deadline = options->timeout != 0 ? cf__deadline(options->timeout) : CF__NEVER;
    for (size_t i = 0, low = 0; i < parts; i++) {
        const size_t high = low + units / parts + (i < units % parts);
        cf__store_relaxed(&sweep->parts[i].ends, cf__ends(low, high));
        low = high;
    }
    return sweep;
}

/* Submits the tasks and waits for them. */
static cf_status cf__sweep_run(cf__sweep *sweep, size_t *failed)
{
    cf__worker *const self = cf__self_worker(sweep->executor);
    const size_t tasks = sweep->part_count - (self != NULL);
    for (size_t i = 0; i < tasks; i++)
        (void)cf__submit(sweep->executor, cf__sweep_main, sweep, 0, NULL, &sweep->parts[i].future);
    if (self != NULL) cf__sweep_here(sweep, self->index);
    cf__sweep_finish(sweep, tasks, cf__sweep_await(sweep, tasks));
    const cf_status status = sweep->status;
    if (status != CF_OK && failed != NULL) *failed = sweep->failed;
    cf__free_lines(sweep);
    return status;
}

/* The whole of a generator's items, at most *count. NULL: out of memory. */
static char *cf__pull_all(const cf_map_options *options, size_t item_size, size_t *count)
{
    char *const items = cf__alloc(cf__size(0, *count, item_size));
    size_t pulled = 0;
    while (items != NULL && pulled < *count &&
           options->next_item(items + pulled * item_size, options->user))
        pulled++;
    *count = pulled;
    return items;
}

CFUTURES_API cf_status cf_executor_map_array(cf_executor *executor, cf_task_fn *fn,
                                             const void *items, size_t item_size, void *results,
                                             size_t result_size, size_t count,
                                             const cf_map_options *options, size_t *failed)
{
    if (options == NULL) options = &cf__no_map_options;
    cf_status status = cf__check(executor, fn, NULL);
    if (status != CF_OK) return status;
    if (!cf__are_items(options, items, count, item_size) ||
        !cf__is_array(results, count, result_size))
        return CF_INVALID;
    char *pulled = NULL;
    if (options->next_item != NULL) {
        if (result_size > 0) memset(results, 0, count * result_size);
        pulled = cf__pull_all(options, item_size, &count);
        if (pulled == NULL) return CF_NO_MEMORY;
        items = pulled;
    }
    if (count > 0 && cf__processes_of(executor) != NULL) {
        status = executor->processes->map_array(executor, fn, items, item_size, results,
                                                result_size, count, options, failed);
    } else if (count > 0) {
        cf__sweep *const sweep = cf__sweep_new(executor, options, count);
        status = CF_NO_MEMORY;
        if (sweep != NULL) {
            sweep->fn = fn;
            sweep->items = items;
            sweep->item_size = item_size;
            sweep->results = result_size > 0 ? results : sweep;
            sweep->result_size = result_size;
            status = cf__sweep_run(sweep, failed);
        }
    }
    cf__free(pulled);
    return status;
}

/* ---------------------------------------------------------------------------------------------
 * process                                                                            >>process
 *
 * The same executor, with worker processes. The way of one task:
 *
 *     submit -> queue -> desk (shared memory) -> worker: runs it -> desk -> pump -> future settled
 *
 *     host process                                          zygote            worker i
 *       manager thread  <---- commands, reports ---->  forks, reaps, kills
 *         lane i        <---- channel i: wake-ups, descriptors ------------->  its task loop
 *         lane i        <---- desk i: tasks and outcomes, shared memory ---->
 *
 * cf_process_pool_new forks the zygote, or starts this program anew as one (spawn). It stays
 * single-threaded and is the parent of all workers: it forks them on demand, reaps them, reports
 * how they ended, and kills only what it has not reaped, so no signal ever hits a stranger.
 * End-of-file from the host makes it kill all workers and leave; a worker ends with the zygote
 * (outside Linux: when its task has ended, too), or on end-of-file.
 *
 * A desk is a ring of slots. The host makes a slot READY, the worker takes it by compare-and-swap,
 * and makes it ENDED when the outcome lies in it; as long as it is READY the host can take it back,
 * the newest first: for a cancel, for a worker that has nothing to do, from one that is dead. A
 * complete outcome wins over the death that follows it; of a dead worker's tasks only the TAKEN one
 * is lost.
 * Tasks are handed ahead only when all workers are busy, and the more of them the shorter they are.
 * No process ever waits for a lock that another process may hold. What a worker writes is not
 * trusted: it is read once, and checked. A worker believes neither, and leaves where it is told
 * nonsense.
 * A task whose idle worker does not begin it, since it is stopped or starved, goes to another one:
 * the manager looks a while after a task was given, and sleeps for good when all have begun.
 * A host that closes descriptors which are not its own has a broken pool: see cf__hub_disown.
 *
 * Outcomes are collected by the pump: the manager, or a caller that would only wait otherwise. The
 * manager runs callbacks, talks to the zygote, and keeps the deadlines. The executor's lock guards
 * lanes and queue. What is long or big (payloads above CF__SLOT_ROOM) lies in mappings of its own,
 * sent as descriptors.
 *
 * Why no wake-up is lost: the side that goes to sleep stores that it does (asleep; pumping), then
 * looks at the slots; the other stores the slot's word, then looks whether the first sleeps. All
 * four are sequentially consistent. Where the desks are empty the host puts its store off: who
 * gives the next task makes up for it, and looks at the slot after that.
 * --------------------------------------------------------------------------------------------- */

#ifdef CFUTURES_POSIX

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* the socket has SO_NOSIGPIPE there */
#endif

#define CF__SLOTS     ((size_t)64) /* of a desk; a power of two */
#define CF__SLOT_ROOM ((size_t)CF__BIG)
#define CF__DEPTH_LEAST ((size_t)2)
#define CF__TRAYS     2
#define CF__LOANS     16 /* mappings of a worker that hold results and are used again */
#define CF__ONCE      4  /* those that serve for one outcome, at most at a time */
#define CF__MAPPINGS  (CF__LOANS + CF__SLOTS) /* as the host counts them: those serve a slot each */
#define CF__KEEP      ((size_t)128 << 20) /* bigger mappings are not kept */
#define CF__FAT       ((size_t)1 << 20) /* the pages of bigger ones are given back after a while */
#define CF__INSIST    100 /* times that a message is sent again which the system has refused */
#define CF__HESITATE  8   /* looks whether somebody comes by himself, before a worker rings */
#define CF__WAKE_UP   255 /* a message of the host's to a worker: this, or the number of a tray */
#define CF__PAGE      ((size_t)65536) /* a multiple of every page size */

/* ---- shared memory ---- */

#define CF__SLOT_FREE  ((uintptr_t)0)
#define CF__SLOT_READY ((uintptr_t)1)
#define CF__SLOT_TAKEN ((uintptr_t)2)
#define CF__SLOT_ENDED ((uintptr_t)3)

/* What is to be done. Functions as distance from cf_process_main. */
typedef struct cf__job {
    uintptr_t fn, pointer; /* pointer: the argument itself, where arg_size is 0 */
    uintptr_t arg_size;    /* bytes of argument, or of all items */
    uintptr_t tray;        /* 0: they are in the slot. Else 1 + the number of the tray, */
    uintptr_t version;     /* and which of the mappings that were sent for it */
    uintptr_t items;       /* 0: one task. Else a chunk of that many items, */
    uintptr_t item_size, stride;
    int64_t   timeout, given;
} cf__job;

/* How it ended: two words, each of them read once. */
typedef struct cf__outcome {
    cf__word extent; /* bytes, times two; plus one, where the task failed */
    cf__word code;   /* then its code, else the status */
} cf__outcome;

/* A small call and its small result need the line of `word` only. */
typedef struct cf__slot {
    _Alignas(CF__LINE) cf__word stop; /* W: host. CF__STOP */
    cf__word progress; /* W: worker. Items of a chunk whose records are complete */
    cf__word delay;    /* W: worker. Microseconds from `given` to its start, if it has a timeout */
    int64_t  began, ended; /* worker, before ENDED. When it did, if anybody wants to know */
    cf__job  job;      /* host, before READY */
    _Alignas(CF__LINE) cf__word word; /* host: READY; READY back to FREE. Worker: READY to TAKEN to
                                         ENDED, which it stays until the slot's next task */
    cf__outcome outcome; /* worker, before ENDED */
    cf__word  place;   /* W: worker. Where the outcome lies: 0 here, else 1 + a mapping's number */
    uintptr_t fn;      /* host, before READY, as the next two. CF__BY_JOB: `job` says what to do */
    uintptr_t arg_size;
    _Alignas(max_align_t) unsigned char bytes[CF__SLOT_ROOM]; /* the argument, or a pointer */
} cf__slot;

/* cf__slot.fn of what is no simple call; as a distance from cf_process_main it is no function. */
#define CF__BY_JOB ((uintptr_t)0)

#define CF__LOAN_FREE ((uintptr_t)0)
#define CF__LOAN_LENT ((uintptr_t)1)
#define CF__LOAN_LOST ((uintptr_t)2)

#define CF__DESK_UP     ((uintptr_t)1)
#define CF__DESK_FAILED ((uintptr_t)2)

typedef struct cf__desk {
    cf__word up;     /* W: worker. Its initializer has ended */
    cf__word bell;   /* worker: a wake-up is on its way. Host: seen */
    cf__word pid;    /* worker, before `up` */
    _Alignas(CF__LINE) cf__word asleep; /* worker: 1, sleeps on its channel. Host: 0, woken */
    cf__word leave;  /* W: host. End when nothing is left to do */
    _Alignas(CF__LINE) cf__word loans[CF__LOANS]; /* worker: LENT. Host: FREE, given back, or LOST,
                                                     never arrived */
    _Alignas(CF__LINE) cf__slot slots[CF__SLOTS];
} cf__desk;

/* What all processes of a pool share; only the host writes to it once the zygote runs. */
typedef struct cf__share {
    cf__word  pumping; /* a thread of the host looks at the desks; 0: ring the bell */
    /* frozen */
    uintptr_t check;   /* both are the same program */
    uintptr_t initializer, finalizer, worker_arg; /* 0: none */
    uintptr_t lanes, spins;
    uintptr_t observed; /* somebody wants to know when tasks begin and end */
    char      name[16];
} cf__share;

#define CF__SHARE_SIZE CF__PAGE
#define CF__DESK_SIZE  ((sizeof(cf__desk) + CF__PAGE - 1) / CF__PAGE * CF__PAGE)

static cf__desk *cf__desk_at(cf__share *share, size_t index)
{
    return (cf__desk *)(void *)((char *)share + CF__SHARE_SIZE + index * CF__DESK_SIZE);
}

static size_t cf__share_size(size_t lanes) { return CF__SHARE_SIZE + lanes * CF__DESK_SIZE; }

static void cf__outcome_write(cf__outcome *outcome, int status, int code, size_t size)
{
    const bool failed = status == CF_TASK_FAILED;
    cf__store_relaxed(&outcome->extent, size << 1 | failed);
    cf__store_relaxed(&outcome->code, (uintptr_t)(failed ? code : status));
}

typedef struct cf__end {
    int    status, code;
    size_t size;
} cf__end;

/* CF_WORKER_LOST stands for all that no worker writes. */
static cf__end cf__outcome_read(cf__outcome *outcome)
{
    const uintptr_t extent = cf__load_relaxed(&outcome->extent);
    const int code = (int32_t)(uint32_t)cf__load_relaxed(&outcome->code);
    const int status = (extent & 1) != 0 ? CF_TASK_FAILED : code;
    const bool sane = status == CF_OK || status == CF_TASK_FAILED || status == CF_TASK_TIMEOUT ||
                      status == CF_NO_MEMORY || status == CF_INVALID;
    return (cf__end){sane ? status : CF_WORKER_LOST, code, extent >> 1};
}

/* The items of a chunk have an outcome each, with its bytes behind it: a record. */
#define CF__RECORD_ALIGN ((size_t)16)

static size_t cf__padded(size_t size)
{
    return (size + CF__RECORD_ALIGN - 1) & ~(CF__RECORD_ALIGN - 1);
}

static uintptr_t cf__function_out(uintptr_t fn) { return fn - (uintptr_t)&cf_process_main; }
static uintptr_t cf__function_in(uintptr_t fn) { return fn + (uintptr_t)&cf_process_main; }

/* ---- descriptors ---- */

static void cf__fd_close(int *fd)
{
    const int saved = errno;
    if (*fd >= 0) (void)close(*fd);
    *fd = -1;
    errno = saved;
}

/* Two connected sockets, closed on exec. */
static bool cf__channel_open(int ends[2])
{
    ends[0] = ends[1] = -1;
#ifdef SOCK_CLOEXEC
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return false;
#else
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return false;
#endif
    for (int i = 0; i < 2; i++) {
        (void)fcntl(ends[i], F_SETFD, FD_CLOEXEC);
#ifdef SO_NOSIGPIPE
        const int yes = 1;
        (void)setsockopt(ends[i], SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof yes);
#endif
        ends[i] = cf__fd_high(ends[i]);
    }
    if (ends[0] >= 0 && ends[1] >= 0) return true;
    cf__fd_close(&ends[0]);
    cf__fd_close(&ends[1]);
    return false;
}

/* Sends size bytes, with a descriptor unless fd is -1. 0, or errno's value; EAGAIN only with flags
 * MSG_DONTWAIT. Messages are far smaller than any socket's buffer: all or nothing. */
static int cf__channel_send(int channel, const void *data, size_t size, int fd, int flags)
{
    union {
        struct cmsghdr header;
        char           room[64];
    } control;
    const int saved = errno;
    struct iovec part = {(void *)(uintptr_t)data, size};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (fd >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof fd);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    ssize_t sent;
    do sent = sendmsg(channel, &message, MSG_NOSIGNAL | flags);
    while (sent < 0 && errno == EINTR);
    const int error = sent < 0 ? errno : 0;
    errno = saved;
    return error;
}

static bool cf__is_gone(int error)
{
    return error == EPIPE || error == ECONNRESET || error == ENOTCONN || error == EBADF ||
           error == ENOTSOCK;
}

/* Blocks, and comes again if only memory is short. False: the peer is gone, or memory is short for
 * good. */
static bool cf__channel_insist(int channel, const void *data, size_t size, int fd)
{
    const struct timespec pause = {0, CF_MILLISECOND};
    int error = 0;
    for (int i = 0; i < CF__INSIST; i++) {
        error = cf__channel_send(channel, data, size, fd, 0);
        if (error == 0 || cf__is_gone(error)) break;
        (void)nanosleep(&pause, NULL);
    }
    return error == 0;
}

/* Up to size bytes and a descriptor (else *fd is -1, or -2 where one was lost on the way, since
 * this process may have no more). As recv: 0 end of file, -1 nothing there. */
static ssize_t cf__channel_receive(int channel, void *data, size_t size, int *fd, int flags)
{
    union {
        struct cmsghdr header;
        char           room[64];
    } control;
    const int saved = errno;
    struct iovec part = {data, size};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = CMSG_LEN(sizeof *fd); /* CMSG_SPACE would let a second one in */
#ifdef MSG_CMSG_CLOEXEC
    flags |= MSG_CMSG_CLOEXEC;
#endif
    ssize_t got;
    do got = recvmsg(channel, &message, flags);
    while (got < 0 && errno == EINTR);
    *fd = -1;
    if (got > 0 && message.msg_controllen >= CMSG_LEN(sizeof *fd) &&
        control.header.cmsg_level == SOL_SOCKET && control.header.cmsg_type == SCM_RIGHTS) {
        memcpy(fd, CMSG_DATA(&control.header), sizeof *fd);
        (void)fcntl(*fd, F_SETFD, FD_CLOEXEC);
        *fd = cf__fd_high(*fd);
        if (*fd < 0) *fd = -2;
    } else if (got > 0 && (message.msg_flags & MSG_CTRUNC) != 0) {
        *fd = -2;
    }
    const bool again = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    errno = saved;
    return got < 0 && !again ? 0 : got;
}

/* The same for a whole message: once it has begun, the rest is on its way. */
static ssize_t cf__channel_receive_whole(int channel, void *data, size_t size, int *fd, int flags)
{
    size_t have = 0;
    *fd = -1;
    while (have < size) {
        int sent;
        const ssize_t got =
            cf__channel_receive(channel, (char *)data + have, size - have, &sent, flags);
        if (got <= 0) return got;
        if (sent >= 0) *fd = sent;
        have += (size_t)got;
        flags = 0;
    }
    return (ssize_t)size;
}

/* Memory that can be sent as a descriptor, and that the receiver cannot shrink under us. -1: none.
 * */
static int cf__memory_open(size_t size)
{
#ifdef __linux__
    const unsigned long flags = 1 | 2; /* CLOEXEC, SEALS; 8: NOEXEC_SEAL, which may be required */
    int made = (int)syscall(SYS_memfd_create, "cfutures", flags | 8);
    if (made < 0 && errno == EINVAL) made = (int)syscall(SYS_memfd_create, "cfutures", flags);
    const int fd = cf__fd_high(made);
#else
    static cf__word count;
    char name[48];
    int made;
    do { /* a name may be left from a process of this number that was killed just here */
        (void)snprintf(name, sizeof name, "/cf%ld-%zu", (long)getpid(),
                       (size_t)cf__fetch_add(&count, 1));
        made = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    } while (made < 0 && errno == EEXIST);
    const int fd = cf__fd_high(made);
    if (made >= 0) (void)shm_unlink(name);
#endif
    if (fd < 0) return -1;
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    struct rlimit most; /* what is beyond it is answered by SIGXFSZ */
    bool done = getrlimit(RLIMIT_FSIZE, &most) != 0 || most.rlim_cur == RLIM_INFINITY ||
                (rlim_t)size <= most.rlim_cur;
    done = done && ftruncate(fd, (off_t)size) == 0;
#ifdef __linux__
    done = done && fcntl(fd, 1033 /* F_ADD_SEALS */, 1 | 2 | 4 /* SEAL, SHRINK, GROW */) == 0;
#endif
    if (done) return fd;
    (void)close(fd);
    return -1;
}

static void *cf__memory_map(int fd, size_t size)
{
    void *const base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return base != MAP_FAILED ? base : NULL;
}

/* Powers of two, so that one mapping serves many sizes; whole pages for what is not kept anyway.
 * 0: too big. */
static size_t cf__memory_size(size_t size)
{
    size_t rounded = CF__PAGE;
    if (size > PTRDIFF_MAX - CF__PAGE) return 0;
    if (size > CF__KEEP) return (size + CF__PAGE - 1) & ~(CF__PAGE - 1);
    while (rounded < size) rounded *= 2;
    return rounded;
}

/* A mapping of at least that size, and the descriptor by which another process gets it too. -1: out
 * of memory, or, if *size is 0 afterwards, it is too big. */
static int cf__memory_new(size_t *size, void **base)
{
    *size = cf__memory_size(*size);
    int fd = *size > 0 ? cf__memory_open(*size) : -1;
    *base = fd >= 0 ? cf__memory_map(fd, *size) : NULL;
    if (*base == NULL) cf__fd_close(&fd);
    return fd;
}

/* What another process sent: mapped whole, if it can never shrink and is not too big. Else 0. */
static size_t cf__memory_accept(int fd, void **base, size_t most)
{
    struct stat about;
#ifdef __linux__
    const int seals = fcntl(fd, 1034 /* F_GET_SEALS */); /* first: the size may change until then */
    if (seals < 0 || (seals & 2) == 0) return 0;
#endif
    if (fstat(fd, &about) != 0 || about.st_size <= 0 || (uintmax_t)about.st_size > most) return 0;
    *base = cf__memory_map(fd, (size_t)about.st_size);
    return *base != NULL ? (size_t)about.st_size : 0;
}

/* No outcome is bigger than what the machine can hold, swapped out or not: so no worker takes the
 * host's whole address space. */
static size_t cf__memory_most(void)
{
#ifdef _SC_PHYS_PAGES
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0 && pages < PTRDIFF_MAX / page / 4)
        return (size_t)pages * (size_t)page * 4;
#endif
    return PTRDIFF_MAX;
}

/* Unless it is locked: in the host who holds it may hold it for long; in a worker it was locked
 * when the pool was made, by a thread that is not here, for ever. */
static void cf__file_flush(FILE *file)
{
#ifdef __linux__
    if (__fpending(file) == 0) return;
#endif
    if (ftrylockfile(file) != 0) return;
    (void)fflush(file);
    funlockfile(file);
}

/* Lets another process have this CPU while spinning: it may be the one that is waited for. Where
 * yielding means that strangers run for a whole time slice, it is left alone for a while. */
static void cf__spin_yield(cf__word *crowded)
{
    const uintptr_t skip = cf__load_relaxed(crowded);
    if (skip > 0) {
        cf__store_relaxed(crowded, skip - 1);
        return;
    }
    const int64_t from = cf__now();
    cf__yield();
    if (cf__now() - from > CF_MILLISECOND / 5) cf__store_relaxed(crowded, 20000);
}

/* ---- worker process ---- */

typedef struct cf__loan {
    void  *base;
    size_t size; /* 0: none */
    int    fd;   /* not yet sent; -1: the host has it */
} cf__loan;

/* A mapping for the argument of one task at a time. The host replaces it by a bigger one. */
typedef struct cf__tray {
    void  *base;
    size_t size; /* 0: none */
    uintptr_t version; /* how many were sent, or received */
    const cf_future *user; /* host: the task at the desk that needs it; NULL: none */
} cf__tray;

static void cf__tray_drop(cf__tray *tray)
{
    if (tray->size > 0) (void)munmap(tray->base, tray->size);
    tray->base = NULL;
    tray->size = 0;
}

/* The process is one worker, or it is none and this is all zeros. */
static struct cf__child {
    cf__share *share;
    cf__desk  *desk;
    size_t     index;
    int        channel;
    bool       observed;
    cf__tray   trays[CF__TRAYS];
    int64_t    spin;
    cf__word   crowded;
    cf__loan   loans[CF__LOANS + CF__ONCE];
} cf__child;

/* The host is gone, or has given this worker up: nobody is left to serve. */
static _Noreturn void cf__child_vanish(void) { _exit(0); }

static void cf__child_flush(void)
{
    cf__file_flush(stdout);
    cf__file_flush(stderr);
}

/* Who has just submitted is often about to look, and to wake the manager would hold both up. */
static void cf__child_ring(void)
{
    for (int i = 0; i < CF__HESITATE; i++) {
        if (cf__load_seq_cst(&cf__child.share->pumping) != 0) return;
        cf__pause();
    }
    if (cf__exchange(&cf__child.desk->bell, 1) == 0 &&
        !cf__channel_insist(cf__child.channel, "", 1, -1))
        cf__child_vanish();
}

/* A byte from the host, perhaps with a mapping for arguments. What ends the wait: the byte, or the
 * host's end. */
static void cf__child_listen(int flags)
{
    unsigned char number;
    int fd;
    if (cf__channel_receive(cf__child.channel, &number, 1, &fd, flags) <= 0) cf__child_vanish();
    if (number < CF__TRAYS) {
        cf__tray *const tray = &cf__child.trays[number];
        cf__tray_drop(tray);
        tray->size = cf__memory_accept(fd, &tray->base, PTRDIFF_MAX); /* 0: so says the outcome */
        tray->version++;
    }
    cf__fd_close(&fd);
}

static void cf__child_unloan(int number)
{
    cf__loan *const loan = &cf__child.loans[number];
    if (loan->size > 0) (void)munmap(loan->base, loan->size);
    cf__fd_close(&loan->fd);
    loan->size = 0;
}

/* A loan of that size: one that came back, or a new one. -1: out of memory. */
static int cf__child_loan(size_t size)
{
    int free = CF__LOANS, best = -1;
    for (int i = 0; i < CF__LOANS; i++) {
        const uintptr_t state = cf__load_acquire(&cf__child.desk->loans[i]);
        if (state == CF__LOAN_LENT) continue;
        if (state == CF__LOAN_LOST) cf__child_unloan(i);
        free = i;
        if (cf__child.loans[i].size >= size &&
            (best < 0 || cf__child.loans[i].size < cf__child.loans[best].size))
            best = i;
    }
    if (best < 0) {
        best = size > CF__KEEP ? CF__LOANS : free;
        while (best >= CF__LOANS && cf__child.loans[best].size > 0)
            if (++best == CF__LOANS + CF__ONCE) return -1;
        cf__loan *const loan = &cf__child.loans[best];
        cf__child_unloan(best);
        loan->fd = cf__memory_new(&size, &loan->base);
        if (loan->fd < 0) return -1;
        loan->size = size;
    }
    if (best < CF__LOANS) cf__store_relaxed(&cf__child.desk->loans[best], CF__LOAN_LENT);
    return best;
}

static int cf__child_loan_at(const void *base)
{
    for (int i = 0; i < CF__LOANS + CF__ONCE; i++)
        if (cf__child.loans[i].size > 0 && cf__child.loans[i].base == base) return i;
    return -1;
}

/* The outcome did not go there after all. */
static void cf__child_give_back(void *base)
{
    const int number = cf__child_loan_at(base);
    if (number >= CF__LOANS) cf__child_unloan(number);
    else if (number >= 0) cf__store_release(&cf__child.desk->loans[number], 0);
}

/* cf_task.big_room: where the caller will read it. */
static void *cf__child_room(size_t size, cf_free_fn **free_room)
{
    const int number = cf__child_loan(size);
    *free_room = cf__child_give_back;
    return number >= 0 ? cf__child.loans[number].base : NULL;
}

/* The host learns of the loan, before it is told that something lies there. */
static void cf__child_show(cf__slot *slot, int number)
{
    cf__loan *const loan = &cf__child.loans[number];
    const unsigned char name = (unsigned char)(
        number < CF__LOANS ? number : CF__LOANS + (slot - cf__child.desk->slots));
    if (loan->fd >= 0 && !cf__channel_insist(cf__child.channel, &name, 1, loan->fd))
        cf__child_vanish();
    cf__fd_close(&loan->fd);
    cf__store_release(&slot->place, (uintptr_t)name + 1);
}

/* ---- one task ---- */

static void cf__child_task(cf_task *task, cf__slot *slot, const cf__job *job)
{
    cf__task_begin(task, NULL, &slot->stop, cf__child.index, job->arg_size);
    if (job->timeout > 0) {
        const int64_t delay = (cf__now() - job->given) / CF_MICROSECOND + 1;
        task->deadline = cf__deadline(job->timeout);
        cf__store_relaxed(&slot->delay, (uintptr_t)(delay < INT32_MAX ? delay : INT32_MAX));
    }
    task->big_room = cf__child_room;
}

/* Big outcomes that are not yet where the host can read them. False: out of memory. */
static bool cf__child_export(cf__slot *slot, cf__cell *cell)
{
    int number = cf__child_loan_at(cell->data);
    if (number < 0) {
        number = cf__child_loan(cell->size);
        if (number < 0) return false;
        memcpy(cf__child.loans[number].base, cell->data, cell->size);
        cf__cell_clear(cell);
    }
    cf__child_show(slot, number);
    if (number >= CF__LOANS) cf__child_unloan(number);
    return true;
}

/* Bytes of result, or of message as far as a slot has room for it. */
static size_t cf__child_extent(const cf__cell *cell)
{
    if (cell->status == CF_OK) return cell->size;
    if (cell->status != CF_TASK_FAILED || (cell->traits & CF__MESSAGE) == 0) return 0;
    const size_t size = strlen(cell->data);
    return size < CF__SLOT_ROOM ? size : CF__SLOT_ROOM;
}

static void cf__child_single(cf__slot *slot, const cf__job *job, void *arg)
{
    cf_task task;
    cf__cell cell;
    const uintptr_t fn = cf__function_in(job->fn);
    cf__child_task(&task, slot, job);
    cf__cell_init(&cell);
    const int code = ((cf_task_fn *)fn)(&task, arg);
    cf__task_finish(&task, code, &cell);
    size_t size = cf__child_extent(&cell);
    if (size <= CF__SLOT_ROOM) {
        if (size > 0) memmove(slot->bytes, cell.data, size);
        cf__cell_clear(&cell);
    } else if (!cf__child_export(slot, &cell)) {
        cf__cell_clear(&cell);
        cell.status = CF_NO_MEMORY;
        size = 0;
    }
    cf__outcome_write(&slot->outcome, cell.status, cell.code, size);
}

/* ---- a chunk ---- */

typedef struct cf__outbox {
    char  *base;
    size_t used, room;
    int    loan; /* -1: in the slot */
} cf__outbox;

/* Room for `need` more bytes. The host reads the records where `place` says: it changes when all
 * that were complete are there. */
static bool cf__outbox_reserve(cf__outbox *out, cf__slot *slot, size_t items, size_t need)
{
    if (out->room - out->used >= need) return true;
    const size_t most = SIZE_MAX / 4;
    if (need > most || out->used > most) return false;
    const size_t least = out->used + need;
    const size_t each = least / ((size_t)cf__load_relaxed(&slot->progress) + 1) + 1;
    const int number = cf__child_loan(items < most / each ? each * items : least);
    if (number < 0) return false;
    memcpy(cf__child.loans[number].base, out->base, out->used);
    cf__child_show(slot, number);
    if (out->loan >= 0) cf__child_give_back(out->base);
    out->base = cf__child.loans[number].base;
    out->room = cf__child.loans[number].size;
    out->loan = number;
    return true;
}

/* False: not even a status can be said. */
static bool cf__outbox_add(cf__outbox *out, cf__slot *slot, size_t items, cf__cell *cell)
{
    const size_t head = cf__padded(sizeof(cf__outcome));
    size_t size = cf__child_extent(cell);
    if (size > SIZE_MAX / 4 || !cf__outbox_reserve(out, slot, items, head + cf__padded(size))) {
        if (out->room - out->used < head) return false;
        cell->status = CF_NO_MEMORY;
        size = 0;
    }
    char *const at = out->base + out->used;
    cf__outcome_write((cf__outcome *)(void *)at, cell->status, cell->code, size);
    if (size > 0) memcpy(at + head, cell->data, size);
    out->used += head + cf__padded(size);
    return true;
}

static void cf__child_chunk(cf__slot *slot, const cf__job *job, char *items)
{
    const size_t first = job->tray == 0 ? cf__padded(job->arg_size) : 0; /* behind the items */
    cf__outbox out = {(char *)slot->bytes + first, 0, CF__SLOT_ROOM - first, -1};
    const uintptr_t fn = cf__function_in(job->fn);
    cf_task outer;
    bool room = true;
    cf__child_task(&outer, slot, job);
    for (size_t i = 0; room && i < job->items && (i == 0 || !cf_task_stop_requested(&outer)); i++) {
        cf__cell cell;
        cf__cell_init(&cell);
        cf__item_run(&outer, (cf_task_fn *)fn, items + i * job->stride, job->item_size, &cell);
        room = cf__outbox_add(&out, slot, job->items, &cell);
        cf__cell_clear(&cell);
        cf__child_flush();
        if (room) cf__store_release(&slot->progress, i + 1);
    }
    if (out.loan >= CF__LOANS) cf__child_unloan(out.loan);
    cf__outcome_write(&slot->outcome, room ? CF_OK : CF_NO_MEMORY, 0, 0);
}

/* ---- the loop ---- */

/* The tray of a job; NULL: the argument is in the slot. It was sent before the slot was READY. */
static cf__tray *cf__child_tray(const cf__job *job)
{
    if (job->tray == 0) return NULL;
    cf__tray *const tray = &cf__child.trays[(job->tray - 1) % CF__TRAYS];
    while (tray->version != job->version) cf__child_listen(MSG_DONTWAIT);
    CFUTURES_TEST_RECEIVED(tray->base, tray->size);
    return tray;
}

/* Does it keep to the memory that it was given? A task that ran wild may have spoilt it. */
static bool cf__job_is_sane(const cf__job *job, size_t room)
{
    if (job->arg_size > room || job->item_size > job->stride) return false;
    if (job->stride == 0) return job->items == 0 || job->arg_size == 0;
    return job->arg_size % job->stride == 0 && job->arg_size / job->stride == job->items;
}

/* A copy, which nobody can change any more. */
static cf__job cf__child_job(const cf__slot *slot)
{
    cf__job job;
    if (slot->fn == CF__BY_JOB) return slot->job;
    memset(&job, 0, sizeof job);
    job.fn = slot->fn;
    job.arg_size = slot->arg_size;
    memcpy(&job.pointer, slot->bytes, sizeof job.pointer);
    return job;
}

CF__SHARED void cf__child_run(cf__slot *slot)
{
    CFUTURES_TEST_RECEIVED(slot, sizeof *slot);
    const cf__job job = cf__child_job(slot);
    void *arg = job.arg_size > 0 ? (void *)slot->bytes : (void *)job.pointer;
    size_t room = job.items > 0 ? CF__SLOT_ROOM / 2 : CF__SLOT_ROOM;
    cf__tray *const tray = cf__child_tray(&job);
    if (tray != NULL) {
        arg = tray->base;
        room = tray->size;
    }
    if (cf__child.observed) slot->began = cf__now();
    if (tray != NULL && room == 0) {
        cf__outcome_write(&slot->outcome, CF_NO_MEMORY, 0, 0); /* it could not be mapped */
    } else if (!cf__job_is_sane(&job, room)) {
        _exit(1);
    } else if (job.items > 0) {
        cf__child_chunk(slot, &job, arg);
    } else {
        cf__child_single(slot, &job, arg);
    }
    if (cf__child.observed) slot->ended = cf__now();
    cf__child_flush();
    if (tray != NULL && room > CF__KEEP) cf__tray_drop(tray);
    CFUTURES_TEST_POINT(CF__POINT_ANSWER);
    cf__store_seq_cst(&slot->word, CF__SLOT_ENDED);
    CFUTURES_TEST_POINT(CF__POINT_ENDED);
    cf__child_ring();
}

/* Writes what is there: so the line comes to be written to, and need not be asked for twice. */
static bool cf__child_wanted(cf__slot *slot)
{
    uintptr_t seen = CF__SLOT_READY;
    return cf__cas_seq_cst(&slot->word, &seen, CF__SLOT_READY) ||
           cf__load_seq_cst(&cf__child.desk->leave) != 0;
}

/* Spins while that paid lately, then sleeps. What ends it: a task, the word to leave, or
 * end-of-file. */
static void cf__child_rest(cf__slot *slot)
{
    const int64_t from = cf__now();
    if (cf__child.share->spins != 0) {
        do {
            for (int i = 0; i < 32; i++) {
                if (cf__child_wanted(slot)) return;
                cf__pause();
            }
            cf__spin_yield(&cf__child.crowded); /* the host may be waiting for this very CPU */
        } while (cf__now() < from + cf__child.spin);
    }
    cf__store_seq_cst(&cf__child.desk->asleep, 1);
    CFUTURES_TEST_POINT(CF__POINT_ASLEEP);
    while (cf__load_seq_cst(&cf__child.desk->asleep) != 0 && !cf__child_wanted(slot))
        cf__child_listen(0);
    cf__store_relaxed(&cf__child.desk->asleep, 0);
    cf__child.spin = cf__now() - from < (int64_t)CF__SPIN_MOST ? (int64_t)CF__SPIN_MOST
                     : cf__child.spin / 2 > (int64_t)CF__SPIN_LEAST ? cf__child.spin / 2
                                                                    : (int64_t)CF__SPIN_LEAST;
}

static void cf__child_loop(void)
{
    for (size_t next = 0;;) {
        cf__slot *const slot = &cf__child.desk->slots[next % CF__SLOTS];
        uintptr_t seen = CF__SLOT_READY;
        const bool leave = cf__load_seq_cst(&cf__child.desk->leave) != 0; /* before the last task */
        CFUTURES_TEST_POINT(CF__POINT_TAKE);
        if (cf__cas_seq_cst(&slot->word, &seen, CF__SLOT_TAKEN)) {
            cf__child_run(slot);
            next++;
        } else if (leave) {
            return;
        } else {
            cf__child_rest(slot);
        }
    }
}

/* The process becomes worker `index`, and never returns from here. */
static _Noreturn void cf__child_main(cf__share *share, size_t index, int channel)
{
    memset(&cf__child, 0, sizeof cf__child); /* of the worker that made this pool, if it was one */
    cf__child.share = share;
    cf__child.desk = cf__desk_at(share, index);
    cf__child.index = index;
    cf__child.channel = channel;
    cf__child.observed = share->observed != 0;
    cf__child.spin = (int64_t)CF__SPIN_MOST;
    for (size_t i = 0; i < CF__LOANS + CF__ONCE; i++) cf__child.loans[i].fd = -1;
    /* What is not its own it cannot damage, whatever the tasks do. */
    char *const desks = (char *)share + CF__SHARE_SIZE;
    const size_t before = index * CF__DESK_SIZE, after = (share->lanes - index - 1) * CF__DESK_SIZE;
    if (before > 0) (void)munmap(desks, before);
    if (after > 0) (void)munmap(desks + before + CF__DESK_SIZE, after);
    (void)mprotect(share, CF__SHARE_SIZE, PROT_READ);
    cf__thread_name(share->name, index);
    void *const worker_arg = (void *)share->worker_arg;
    const uintptr_t initializer = cf__function_in(share->initializer);
    const bool failed =
        share->initializer != 0 && ((cf_initializer_fn *)initializer)(worker_arg) != 0;
    cf__child_flush();
    CFUTURES_TEST_POINT(CF__POINT_UP);
    cf__store_relaxed(&cf__child.desk->pid, (uintptr_t)getpid());
    cf__store_seq_cst(&cf__child.desk->up, failed ? CF__DESK_FAILED : CF__DESK_UP);
    cf__child_ring();
    if (failed) _exit(0);
    cf__child_loop();
    const uintptr_t finalizer = cf__function_in(share->finalizer);
    if (share->finalizer != 0) ((cf_finalizer_fn *)finalizer)(worker_arg);
    cf__child_flush();
    _exit(0);
}

/* ---- zygote ---- */

typedef enum cf__order_kind { CF__ORDER_START, CF__ORDER_KILL } cf__order_kind;

typedef struct cf__order { /* host to zygote, with a descriptor for CF__ORDER_START */
    int32_t  kind, signal;
    uint32_t lane, generation;
} cf__order;

typedef struct cf__report { /* zygote to host: a worker has ended, or (pid 0) could not be forked */
    uint32_t lane, generation;
    int32_t  pid, status;
} cf__report;

typedef struct cf__kid {
    pid_t    pid; /* 0: none */
    uint32_t generation;
} cf__kid;

typedef struct cf__zygote {
    cf__share *share;
    cf__kid   *kids;
    int        channel;
    int        tick; /* readable after SIGCHLD */
} cf__zygote;

/* SIGCHLD becomes a readable descriptor; -1: none could be had. No signal is blocked any more but
 * what that takes. */
#ifdef __linux__
static int cf__zygote_tick(void)
{
    sigset_t child;
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    (void)sigprocmask(SIG_SETMASK, &child, NULL);
    return cf__fd_high(signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
}
#else
static int cf__zygote_bell;

static void cf__zygote_on_child(int signal)
{
    const int saved = errno;
    (void)signal;
    if (write(cf__zygote_bell, "", 1) < 0) errno = saved; /* full: it will look anyway */
    errno = saved;
}

static int cf__zygote_tick(void)
{
    struct sigaction action;
    int ends[2];
    if (!cf__channel_open(ends)) return -1;
    for (int i = 0; i < 2; i++) (void)fcntl(ends[i], F_SETFL, O_NONBLOCK);
    cf__zygote_bell = ends[1];
    memset(&action, 0, sizeof action);
    (void)sigemptyset(&action.sa_mask);
    action.sa_handler = cf__zygote_on_child;
    action.sa_flags = SA_RESTART | SA_NOCLDSTOP;
    (void)sigaction(SIGCHLD, &action, NULL);
    (void)sigprocmask(SIG_SETMASK, &action.sa_mask, NULL);
    return ends[0];
}
#endif

/* Workers have all dispositions default, the zygote ignores what it may; but both leave SIGINT to
 * the host, and who ignores SIGCHLD reaps nothing. */
static void cf__zygote_signals(bool ignored)
{
    for (int i = 1; i < NSIG; i++)
        (void)signal(i, i == SIGINT || (ignored && i != SIGCHLD) ? SIG_IGN : SIG_DFL);
}

/* Standard input is the null device; output that was closed goes there, lest it hit another file.
 * */
static void cf__zygote_stdio(void)
{
    const int null = cf__fd_high(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (null < 0) return;
    (void)dup2(null, 0);
    for (int i = 1; i < 3; i++)
        if (fcntl(i, F_GETFD) < 0) (void)dup2(null, i);
    (void)close(null);
}

/* Kills and reaps all, and ends. */
static _Noreturn void cf__zygote_end(cf__zygote *zygote)
{
    for (size_t i = 0; i < zygote->share->lanes; i++)
        if (zygote->kids[i].pid > 0) (void)kill(zygote->kids[i].pid, SIGKILL);
    for (size_t i = 0; i < zygote->share->lanes; i++)
        while (zygote->kids[i].pid > 0 && waitpid(zygote->kids[i].pid, NULL, 0) < 0 &&
               errno == EINTR) {}
    _exit(0);
}

static void cf__zygote_report(cf__zygote *zygote, size_t lane, int pid, int status)
{
    const cf__report report = {(uint32_t)lane, zygote->kids[lane].generation, pid, status};
    if (!cf__channel_insist(zygote->channel, &report, sizeof report, -1)) cf__zygote_end(zygote);
}

static void cf__zygote_reap(cf__zygote *zygote)
{
    char ticks[512];
    int status;
    while (read(zygote->tick, ticks, sizeof ticks) > 0) {} /* one byte, or one siginfo, each */
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) { /* all children are its own */
        for (size_t i = 0; i < zygote->share->lanes; i++) {
            if (zygote->kids[i].pid != pid) continue;
            zygote->kids[i].pid = 0;
            cf__zygote_report(zygote, i, (int)pid, status);
        }
    }
}

static void cf__zygote_fork(cf__zygote *zygote, const cf__order *order, int channel)
{
    cf__kid *const kid = &zygote->kids[order->lane];
    cf__signal_mask old;
    sigset_t none;
    const pid_t self = getpid();
    CFUTURES_TEST_POINT(CF__POINT_FORK);
    kid->generation = order->generation;
    cf__signals_block(&old);
    const pid_t pid = channel >= 0 ? fork() : -1;
    if (pid == 0) {
#ifdef __linux__
        (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0L, 0L, 0L);
#endif
        if (getppid() != self) _exit(0);
        (void)close(zygote->channel);
        (void)close(zygote->tick);
#ifndef __linux__
        (void)close(cf__zygote_bell);
#endif
        cf__zygote_signals(false);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        cf__child_main(zygote->share, order->lane, channel);
    }
    const int why = errno;
    cf__signals_restore(&old);
    if (pid > 0) kid->pid = pid;
    else cf__zygote_report(zygote, order->lane, 0, why);
}

static void cf__zygote_obey(cf__zygote *zygote)
{
    cf__order order;
    int channel;
    if (cf__channel_receive_whole(zygote->channel, &order, sizeof order, &channel, 0) <= 0)
        cf__zygote_end(zygote);
    if (order.lane < zygote->share->lanes) {
        const cf__kid *const kid = &zygote->kids[order.lane];
        if (order.kind == CF__ORDER_START) cf__zygote_fork(zygote, &order, channel);
        else if (kid->pid > 0 && kid->generation == order.generation)
            (void)kill(kid->pid, order.signal);
    }
    cf__fd_close(&channel);
}

/* The process becomes the zygote, and never returns from here. Signals are blocked on entry. */
static _Noreturn void cf__zygote_main(cf__share *share, cf__kid *kids, int channel)
{
    cf__zygote zygote = {share, kids, channel, -1};
    cf__self = NULL;
    cf__visits = NULL;
    cf__waiting = NULL;
    cf__store_relaxed(&cf__graph_lock, 0);
    cf__zygote_signals(true);
    cf__zygote_stdio();
    zygote.tick = cf__zygote_tick();
    if (zygote.tick < 0) _exit(1);
    cf__thread_name(share->name, share->lanes);
    for (int refused = 0; refused < CF__INSIST;) {
        struct pollfd ready[2] = {{channel, POLLIN, 0}, {zygote.tick, POLLIN, 0}};
        if (poll(ready, 2, -1) < 0) {
            refused += errno != EINTR;
            continue;
        }
        refused = 0;
        if (ready[1].revents != 0) cf__zygote_reap(&zygote);
        if (ready[0].revents != 0) cf__zygote_obey(&zygote);
    }
    cf__zygote_end(&zygote);
}

/* ---- the host's side: mappings, lanes ---- */

/* A worker's loan as the host sees it. A future whose result lies there holds it, and the lane as
 * long as the worker may use it again. */
typedef struct cf__mapping {
    void     *base;
    size_t    size;
    cf__word *loan;  /* cf__hubs_lock: where to say that it is given back; NULL: to nobody */
    bool      held;  /* cf__hubs_lock: by a future, or by who reads a chunk's records */
    uintptr_t forks; /* frozen */
} cf__mapping;

typedef enum cf__phase {
    CF__LANE_EMPTY,    /* no process */
    CF__LANE_WANTED,   /* to be started, after the hub's pause; counts as a worker */
    CF__LANE_STARTING, /* ordered; not yet up */
    CF__LANE_UP,
    CF__LANE_LEAVING   /* told to leave, or to be killed: gets no task any more */
} cf__phase;

/* All under the executor's lock, but for what `held` says. */
typedef struct cf__lane {
    cf__desk    *desk;    /* frozen */
    int          channel; /* -1: none */
    cf__phase    phase;
    uint32_t     generation; /* of the process; so that no order hits its successor */
    bool         silent;  /* the channel has ended */
    bool         dead;    /* reported; `status` is how */
    bool         unloaded; /* somebody has to load its newest task, see cf__hub_load */
    bool         loading; /* so, or somebody does it: meanwhile that slot is not the worker's.
                             Where the worker could not be told of it, until it is dead */
    bool         unrung;  /* a wake-up was refused, and is to be sent again */
    bool         crashed; /* nobody asked it to end */
    bool         unborn;  /* killed before it was up */
    bool         killed;  /* by SIGKILL: the order was sent */
    bool         stuck;   /* stopped, it seems: gets no task until it goes to sleep by itself */
    int          untold;  /* LEAVING: a signal that is still to be sent; 0: none */
    int          pid, status;
    size_t       head, tail; /* the oldest task not yet collected; where the next one goes */
    size_t       depth;   /* tasks at its desk, at most */
    uint64_t     held;    /* slots of collected tasks that a pump still reads, as bits */
    size_t       given;   /* tasks, to this process */
    size_t       started; /* processes, ever */
    long         greeted; /* manager: the process that the observer was told of; 0: none */
    int64_t      due;     /* UP: the deadline. LEAVING: when to SIGKILL */
    int64_t      stalled; /* tasks wait there: when to take back what has not begun, unless one ends
                             meanwhile; 0: not yet seen */
    int64_t      nominal; /* UP: the deadline of a task that begins as soon as it is given */
    bool         exact, late; /* UP: `due` was put off, since it has begun late, or had not begun */
    cf_status    verdict; /* how the task ends that dies with the process */
    cf__tray     trays[CF__TRAYS];
    cf__word     loads;   /* changes when a load has ended */
    cf_future   *tasks[CF__SLOTS];
    cf__mapping *mappings[CF__MAPPINGS];
} cf__lane;

/* What is needed most comes first: small offsets make small instructions. */
struct cf__hub {
    /* frozen */
    cf_executor *executor;
    cf__share   *share;
    cf__lane    *lanes, *lanes_end;
    size_t       max_tasks;
    bool         spawn, break_on_crash;
    /* executor's lock */
    bool        napping;  /* the manager sleeps, or will: a byte wakes it */
    bool        watching; /* but not for long: it looks whether what was given is begun */
    bool        given;    /* a task, since it looked */
    bool        stirred;  /* something has changed since the manager's round began */
    bool        lost;     /* the zygote is gone */
    bool        fat;      /* some mapping may hold pages that nobody needs */
    bool        calling;  /* it runs callbacks, or will: until then nobody else pumps, so that a
                             callback that waits for its own pool finds out the same each time */
    int         killing;  /* a signal for all workers; 0: none */
    int         channel;  /* to the zygote */
    cf_future **queue;
    size_t      capacity, first, queued; /* capacity: 0, or a power of two */
    size_t      ahead;    /* tasks at the desks: with the queued ones never more than capacity */
    uint64_t    finished, failed, died, submitted, restarts;
    cf__waiter *callbacks, **callbacks_end; /* of settled futures, for the manager */
    size_t      pumping;
    bool        announced; /* that somebody pumps: share->pumping. See cf__hub_depart */
    cf__word    crowded;  /* W, R: anybody. See cf__spin_yield */
    unsigned    strikes;  /* bad starts, in a row */
    unsigned    refusals; /* of messages, in a row */
    int64_t     pause;    /* no start before */
    uint64_t    calm;     /* tasks that had finished when the manager went to sleep */
    cf__signal  wake;     /* the manager's */
    /* cf__hubs_lock */
    struct cf__hub *next, **link;
    int         peer;     /* the other end of `channel`, until the zygote has it */
    /* frozen */
    cf__kid    *kids;     /* the zygote's, made before it is forked */
    size_t      count;
    cf_duration grace;
    pid_t       zygote;   /* 0: reaped */
    cf__thread  manager;
    /* manager only */
    struct pollfd *polled;
    cf__runner  runner;
};

CF__SHARED void cf__hub_lock(cf__hub *hub) { cf__lock(&hub->executor->lock); }
CF__SHARED void cf__hub_unlock(cf__hub *hub) { cf__unlock(&hub->executor->lock); }

static cf__word cf__hubs_lock; /* guards: mappings, and all hubs of this process. Taken last */
static cf__hub *cf__hubs;
static cf__word cf__hubs_watched;
static _Thread_local cf__hub *cf__hub_forking; /* this thread forks its zygote */

static void cf__mapping_free(cf__mapping *mapping)
{
    (void)munmap(mapping->base, mapping->size);
    cf__free(mapping);
}

/* What was held is so no more: the worker may use it again. Here, since it may outlive the pool. */
static void cf__mapping_give_back(cf__mapping *mapping)
{
    const int saved = errno;
    cf__lock(&cf__hubs_lock);
    mapping->held = false;
    const bool ours = mapping->forks == cf__load_relaxed(&cf__forks);
    const bool last = mapping->loan == NULL;
    if (!last && ours) cf__store_release(mapping->loan, 0);
    cf__unlock(&cf__hubs_lock);
    if (last) cf__mapping_free(mapping);
    errno = saved;
}

/* cf_future's free_result. */
static void cf__mapping_release(void *cell)
{
    cf__mapping *mapping;
    memcpy(&mapping, ((cf__cell *)cell)->local, sizeof mapping);
    cf__mapping_give_back(mapping);
}

/* The lane uses it no more. */
static void cf__mapping_abandon(cf__mapping *mapping)
{
    if (mapping == NULL) return;
    cf__lock(&cf__hubs_lock);
    mapping->loan = NULL;
    const bool last = !mapping->held;
    cf__unlock(&cf__hubs_lock);
    if (last) cf__mapping_free(mapping);
}

static void cf__hub_shut(cf__hub *hub)
{
    cf__fd_close(&hub->channel);
    cf__fd_close(&hub->wake.fd);
    cf__fd_close(&hub->wake.writer);
}

/* A fork of the host must not keep the pools' sockets open: the zygotes wait for their end. */
static void cf__hubs_before_fork(void) { cf__lock(&cf__hubs_lock); }
static void cf__hubs_after_fork(void) { cf__unlock(&cf__hubs_lock); }

static void cf__hubs_in_child(void)
{
    for (cf__hub *hub = cf__hubs; hub != NULL; hub = hub->next) {
        cf__hub_shut(hub);
        if (hub != cf__hub_forking) cf__fd_close(&hub->peer);
        for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++)
            cf__fd_close(&lane->channel);
        hub->link = NULL; /* in no list any more */
    }
    cf__hubs = NULL;
    cf__store_relaxed(&cf__hubs_lock, 0);
}

static void cf__hubs_watch(void)
{
    uintptr_t seen = 0;
    if (cf__cas(&cf__hubs_watched, &seen, 1) &&
        pthread_atfork(cf__hubs_before_fork, cf__hubs_after_fork, cf__hubs_in_child) != 0)
        cf__store_relaxed(&cf__hubs_watched, 0);
}

/* The host has closed descriptors that were not its own; by now their numbers may be somebody's,
 * so they are left alone. The manager sleeps on what nobody can reach: the end of the zygote wakes
 * it, if that is still a child of ours. */
CF__COLD void cf__hub_disown(cf__hub *hub)
{
    const int saved = errno;
    siginfo_t about;
    cf__lock(&cf__hubs_lock);
    hub->channel = -1;
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) lane->channel = -1;
    hub->wake.fd = hub->wake.writer = -1;
    (void)cf__signal_open(&hub->wake);
    cf__unlock(&cf__hubs_lock);
    if (!hub->lost && waitid(P_PID, (id_t)hub->zygote, &about, WEXITED | WNOHANG | WNOWAIT) == 0)
        (void)kill(hub->zygote, SIGKILL);
    hub->lost = true;
    errno = saved;
}

static bool cf__hub_is_broken(const cf__hub *hub)
{
    return (cf__load_acquire(&hub->executor->closing) & CF__BROKEN) != 0;
}

/* No task starts any more. */
static bool cf__hub_has_stopped(const cf__hub *hub)
{
    return hub->killing != 0 || cf__hub_is_broken(hub);
}

static bool cf__is_manager(const cf__hub *hub) { return cf__self == &hub->runner; }

/* Under the executor's lock, as everything below that does not say otherwise. */
static void cf__hub_wake(cf__hub *hub)
{
    if (cf__is_manager(hub)) return; /* it looks at all that it does itself */
    hub->stirred = true;
    if (!hub->napping) return;
    hub->napping = false;
    if (!cf__signal_set(&hub->wake, 0, true)) cf__hub_disown(hub);
}

/* Says to the workers whether somebody looks at the desks. */
static void cf__hub_announce(cf__hub *hub)
{
    const bool attended = hub->pumping > 0;
    if (hub->announced == attended) return;
    hub->announced = attended;
    cf__store_seq_cst(&hub->share->pumping, attended);
}

/* One thread more, or less, looks at the desks. */
static void cf__hub_attend(cf__hub *hub, int change)
{
    hub->pumping += (size_t)change;
    cf__hub_announce(hub);
}

/* 0, or errno's value. What is refused, though the peer is there and has room, will be sent again,
 * but not for ever. */
static int cf__hub_send(cf__hub *hub, int channel, const void *data, size_t size, int fd)
{
    const int error = cf__channel_send(channel, data, size, fd, MSG_DONTWAIT);
    if (error == 0) hub->refusals = 0;
    if (error == 0 || error == EAGAIN || cf__is_gone(error)) return error;
    if (++hub->refusals > CF__INSIST) hub->lost = true;
    cf__hub_wake(hub);
    return error;
}

/* False: it could not be sent. */
static bool cf__hub_order(cf__hub *hub, const cf__lane *lane, cf__order_kind kind, int signal,
                          int fd)
{
    const cf__order order = {(int32_t)kind, signal, (uint32_t)(lane - hub->lanes),
                             lane->generation};
    if (hub->lost) return true;
    const int error = cf__hub_send(hub, hub->channel, &order, sizeof order, fd);
    return error == 0 || cf__is_gone(error); /* the end of the channel says the rest */
}

/* ---- the queue ---- */

static bool cf__hub_has_room(const cf__hub *hub, size_t count)
{
    return hub->capacity - hub->queued - hub->ahead >= count;
}

static cf_future **cf__hub_place(cf__hub *hub, size_t position)
{
    return &hub->queue[(hub->first + position) & (hub->capacity - 1)];
}

static void cf__hub_push(cf__hub *hub, cf_future *future)
{
    *cf__hub_place(hub, hub->queued++) = future;
}

static void cf__hub_push_front(cf__hub *hub, cf_future *future)
{
    hub->first = (hub->first - 1) & (hub->capacity - 1);
    hub->queued++;
    *cf__hub_place(hub, 0) = future;
}

static cf_future *cf__hub_pop(cf__hub *hub)
{
    if (hub->queued == 0) return NULL;
    cf_future *const future = *cf__hub_place(hub, 0);
    hub->first = (hub->first + 1) & (hub->capacity - 1);
    hub->queued--;
    return future;
}

static bool cf__is_pending(cf_future *future) { return cf__state(future) == CF__PENDING; }

/* Cancelled tasks leave the front of the queue; releasing one calls no user code. */
static void cf__hub_strip(cf__hub *hub)
{
    while (hub->queued > 0 && !cf__is_pending(*cf__hub_place(hub, 0)))
        cf__drop_tombstone(hub->executor, cf__hub_pop(hub));
}

static void cf__hub_sweep(cf__hub *hub)
{
    if (cf__dead(hub->executor) <= hub->queued / 2) return;
    for (size_t i = hub->queued; i > 0; i--) {
        cf_future *const future = cf__hub_pop(hub);
        if (cf__is_pending(future)) cf__hub_push(hub, future);
        else cf__drop_tombstone(hub->executor, future);
    }
}

/* Lets the lock go meanwhile. False: out of memory. */
static bool cf__hub_reserve(cf__hub *hub, size_t count)
{
    if (!cf__hub_has_room(hub, count)) cf__hub_sweep(hub);
    while (!cf__hub_has_room(hub, count)) {
        const size_t old = hub->capacity, capacity = old > 0 ? 2 * old : 64;
        cf__hub_unlock(hub);
        cf_future **queue = cf__alloc(cf__size(0, capacity, sizeof *queue));
        cf__hub_lock(hub);
        if (queue == NULL) return false;
        cf_future **surplus = queue;
        if (hub->capacity == old) {
            for (size_t i = 0; i < hub->queued; i++) queue[i] = *cf__hub_place(hub, i);
            surplus = hub->queue;
            hub->queue = queue;
            hub->capacity = capacity;
            hub->first = 0;
        }
        cf__hub_unlock(hub);
        cf__free((void *)surplus);
        cf__hub_lock(hub);
    }
    return true;
}

static size_t cf__hub_pending(cf__hub *hub)
{
    const size_t dead = cf__dead(hub->executor);
    return dead < hub->queued ? hub->queued - dead : 0;
}

/* ---- desks ---- */

CF__SHARED cf__slot *cf__lane_slot(cf__lane *lane, size_t position)
{
    return &lane->desk->slots[position % CF__SLOTS];
}

static size_t cf__lane_load(const cf__lane *lane) { return lane->tail - lane->head; }

static bool cf__lane_is_idle(const cf__lane *lane)
{
    return lane->phase == CF__LANE_UP && lane->head == lane->tail && lane->held == 0 &&
           !lane->silent && !lane->dead;
}

/* The tray of that task; of NULL: a free one, the biggest. NULL: there is none. */
static cf__tray *cf__lane_tray(cf__lane *lane, const cf_future *user)
{
    cf__tray *best = NULL;
    for (cf__tray *tray = lane->trays; tray < lane->trays + CF__TRAYS; tray++)
        if (tray->user == user && (best == NULL || tray->size > best->size)) best = tray;
    return best;
}

static uint64_t cf__slot_bit(size_t position) { return (uint64_t)1 << position % CF__SLOTS; }

static bool cf__is_chunk(const cf_future *future)
{
    return future->cell.call.fn == cf__chunk_main;
}

/* The bytes of what has to travel, and how many; NULL: only a pointer. */
static const void *cf__payload(const cf_future *future, size_t *size)
{
    const cf__cell *const cell = &future->cell;
    *size = cell->size;
    if (!cf__is_chunk(future)) return *size > 0 ? cell->data : NULL;
    const cf__chunk *const chunk = cell->data;
    *size = (chunk->count - chunk->ended) * chunk->stride;
    return *size > 0 ? chunk->items + chunk->ended * chunk->stride : NULL;
}

/* A chunk's records want room in the slot too. */
static bool cf__fits_slot(const cf_future *future, size_t size)
{
    return size <= (cf__is_chunk(future) ? CF__SLOT_ROOM / 2 : CF__SLOT_ROOM);
}

static bool cf__is_lent(const cf_future *future)
{
    return (future->cell.traits & CF__ARG_LENT) != 0;
}

/* Room for a big argument, in the worker too. Slow: not under the lock, the tray is busy.
 * CF_WORKER_LOST: there is room, but the worker is dead, or cannot be told for want of kernel
 * memory. */
static cf_status cf__lane_provide(cf__lane *lane, cf__tray *tray, size_t size)
{
    if (tray->size >= size) return CF_OK;
    const unsigned char number = (unsigned char)(tray - lane->trays);
    const int saved = errno;
    void *base;
    int fd = cf__memory_new(&size, &base);
    const bool made = fd >= 0;
    const bool sent = made && cf__channel_send(lane->channel, &number, 1, fd, MSG_DONTWAIT) == 0;
    cf__fd_close(&fd);
    if (made) {
        cf__tray_drop(tray);
        tray->base = base;
        tray->size = size;
        tray->version++;
    }
    errno = saved;
    if (made) return sent ? CF_OK : CF_WORKER_LOST;
    return size > 0 ? CF_SYSTEM : CF_NO_MEMORY;
}

static void cf__job_fill(cf__job *job, const cf_future *future, size_t size)
{
    const cf__cell *const cell = &future->cell;
    memset(job, 0, sizeof *job);
    job->fn = cf__function_out((uintptr_t)cell->call.fn);
    job->pointer = (uintptr_t)cell->data;
    job->arg_size = size;
    job->timeout = cf__cell_options(cell).timeout;
    if (job->timeout > 0) job->given = cf__now();
    if (!cf__is_chunk(future)) return;
    const cf__chunk *const chunk = cell->data;
    job->fn = cf__function_out((uintptr_t)chunk->fn);
    job->pointer = (uintptr_t)chunk->items;
    job->items = chunk->count - chunk->ended;
    job->item_size = chunk->item_size;
    job->stride = chunk->stride;
}

/* All but an argument that is to lie here. The line that the worker looks at comes last, and at
 * once: else it travels to and fro meanwhile. */
static void cf__slot_fill(cf__slot *slot, const cf_future *future, size_t size, uintptr_t tray,
                          uintptr_t version)
{
    const cf__cell *const cell = &future->cell;
    uintptr_t fn = CF__BY_JOB;
    cf__store_relaxed(&slot->stop, 0);
    cf__store_relaxed(&slot->progress, 0);
    cf__store_relaxed(&slot->delay, 0);
    slot->began = slot->ended = 0;
    if (tray != 0 || cf__is_chunk(future) || cf__cell_options(cell).timeout > 0) {
        cf__job_fill(&slot->job, future, size);
        slot->job.tray = tray;
        slot->job.version = version;
    } else {
        fn = cf__function_out((uintptr_t)cell->call.fn);
    }
    slot->fn = fn;
    slot->arg_size = size;
    cf__outcome_write(&slot->outcome, CF_WORKER_LOST, 0, 0);
    cf__store_relaxed(&slot->place, 0);
    if (size == 0) memcpy(slot->bytes, &cell->data, sizeof cell->data);
}

/* Wakes the worker if it sleeps. A channel that is full wakes it too. */
static void cf__lane_ring(cf__hub *hub, cf__lane *lane)
{
    const unsigned char wake_up = CF__WAKE_UP;
    lane->unrung = false;
    if (cf__exchange_seq_cst(&lane->desk->asleep, 0) == 0) return; /* after `leave`, too */
    const int error = cf__hub_send(hub, lane->channel, &wake_up, 1, -1);
    if (error == 0 || error == EAGAIN) return;
    if (cf__is_gone(error)) {
        cf__hub_wake(hub); /* it looks at the channel then */
    } else {
        cf__store_seq_cst(&lane->desk->asleep, 1);
        lane->unrung = true;
    }
}

static bool cf__lane_has_ended(cf__lane *lane)
{
    return lane->head != lane->tail && lane->phase >= CF__LANE_UP &&
           !(lane->loading && lane->head == lane->tail - 1) && /* whatever the worker says */
           cf__load_seq_cst(&cf__lane_slot(lane, lane->head)->word) == CF__SLOT_ENDED;
}

/* The worker may take it from now on. */
static void cf__lane_publish(cf__hub *hub, cf__lane *lane, cf__slot *slot)
{
    CFUTURES_TEST_POINT(CF__POINT_DESK);
    cf__store_seq_cst(&slot->word, CF__SLOT_READY);
    CFUTURES_TEST_POINT(CF__POINT_READY);
    if (cf__load_seq_cst(&lane->desk->asleep) != 0) cf__lane_ring(hub, lane);
    if (hub->announced == (hub->pumping > 0)) return;
    cf__hub_announce(hub);
    if (cf__lane_has_ended(lane)) cf__hub_wake(hub);
}

/* The only task of the desk is given now. See cf__lane_extend. */
static void cf__lane_time(cf__lane *lane, cf_duration timeout)
{
    lane->due = lane->nominal = timeout > 0 ? cf__deadline(timeout) : CF__NEVER;
    lane->stalled = 0;
    lane->exact = lane->late = false;
}

/* A pending task goes to the lane's desk, and runs when the worker takes it. A big one only takes
 * its place: see cf__hub_load. */
static void cf__lane_give(cf__hub *hub, cf__lane *lane, cf_future *future)
{
    const size_t position = lane->tail++;
    size_t size;
    const void *const payload = cf__payload(future, &size);
    lane->tasks[position % CF__SLOTS] = future;
    lane->given++;
    hub->ahead++;
    const cf_duration timeout = cf__cell_options(&future->cell).timeout;
    const bool fits = cf__fits_slot(future, size);
    if (cf__lane_load(lane) == 1) cf__lane_time(lane, fits ? timeout : 0); /* later: cf__hub_load */
    hub->given = hub->count > 1;
    if (timeout > 0 || (hub->given && hub->napping && !hub->watching)) cf__hub_wake(hub);
    cf__store_relaxed(&future->runner, (uintptr_t)lane);
    if (!fits) {
        cf__lane_tray(lane, NULL)->user = future;
        hub->fat = hub->fat || size > CF__FAT;
        lane->loading = lane->unloaded = true;
        cf__hub_wake(hub);
        return;
    }
    cf__slot *const slot = cf__lane_slot(lane, position);
    cf__slot_fill(slot, future, size, 0, 0);
    if (payload != NULL) memcpy(slot->bytes, payload, size);
    cf__lane_publish(hub, lane, slot);
}

/* Somebody is copying the argument of the lane's newest task. */
static bool cf__lane_is_copying(const cf__lane *lane) { return lane->loading && !lane->unloaded; }

/* The desk's newest task, if it has not started. NULL: it has, or its argument is being copied. */
static cf_future *cf__lane_take_back(cf__hub *hub, cf__lane *lane)
{
    uintptr_t seen = CF__SLOT_READY;
    if (lane->head == lane->tail || cf__lane_is_copying(lane) ||
        !cf__is_pending(lane->tasks[(lane->tail - 1) % CF__SLOTS])) /* READY again? */
        return NULL;
    cf__slot *const slot = cf__lane_slot(lane, lane->tail - 1);
    CFUTURES_TEST_POINT(CF__POINT_TAKE_BACK);
    if (!lane->loading && !cf__cas_seq_cst(&slot->word, &seen, CF__SLOT_FREE)) return NULL;
    lane->loading = lane->unloaded = false;
    lane->tail--;
    lane->given--;
    hub->ahead--;
    cf_future *const future = lane->tasks[lane->tail % CF__SLOTS];
    cf__tray *const tray = cf__lane_tray(lane, future);
    if (tray != NULL) tray->user = NULL; /* kept: what was lent lies there, and the worker has it */
    return future;
}

static bool cf__lane_takes(const cf__hub *hub, cf__lane *lane, bool big)
{
    return lane->phase == CF__LANE_UP && !lane->silent && !lane->dead && !lane->loading &&
           !lane->stuck && cf__lane_load(lane) < lane->depth &&
           (lane->held & cf__slot_bit(lane->tail)) == 0 &&
           (hub->max_tasks == 0 || lane->given < hub->max_tasks) &&
           (!big || cf__lane_tray(lane, NULL) != NULL);
}

/* The lane for the next task: one that has nothing to do, else, if all workers are up, the one that
 * has least. A deadline starts when its task is given, and what is lent can lie in one place only:
 * such tasks never go behind others. NULL: it has to wait. */
static cf__lane *cf__hub_lane_for(cf__hub *hub, const cf_future *future)
{
    cf__lane *best = NULL;
    size_t size;
    (void)cf__payload(future, &size);
    const bool big = !cf__fits_slot(future, size);
    bool ahead = !cf__is_lent(future) && cf__cell_options(&future->cell).timeout == 0;
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        ahead = ahead && lane->phase >= CF__LANE_UP;
        if (lane->stuck) cf__hub_wake(hub); /* is it still? */
        if (!cf__lane_takes(hub, lane, big)) continue;
        if (lane->head == lane->tail) return lane;
        if (best == NULL || cf__lane_load(lane) < cf__lane_load(best)) best = lane;
    }
    return ahead ? best : NULL;
}

/* Tasks that wait at desks behind others. */
static size_t cf__hub_behind(const cf__hub *hub)
{
    size_t busy = 0;
    for (const cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++)
        busy += lane->head != lane->tail;
    return hub->ahead - busy;
}

/* The queue is empty: a worker that has nothing to do gets half of what waits behind the others. */
static void cf__hub_share_out(cf__hub *hub)
{
    cf__lane *most = NULL;
    bool any_idle = false;
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        any_idle = any_idle || (cf__lane_is_idle(lane) && !lane->stuck);
        if (cf__lane_load(lane) > 1 && (most == NULL || cf__lane_load(lane) > cf__lane_load(most)))
            most = lane;
    }
    if (!any_idle || most == NULL) return;
    for (size_t n = cf__lane_load(most) / 2; n > 0; n--) {
        cf_future *const future = cf__lane_take_back(hub, most);
        if (future == NULL) return;
        cf__hub_push_front(hub, future);
    }
}

static void cf__hub_hand_out(cf__hub *hub)
{
    cf__hub_strip(hub);
    while (hub->queued > 0) {
        cf__lane *const lane = cf__hub_lane_for(hub, *cf__hub_place(hub, 0));
        if (lane == NULL) return;
        cf__lane_give(hub, lane, cf__hub_pop(hub));
        cf__hub_strip(hub);
    }
}

/* No worker is free for one more task, nor can be started, and the queue is full. */
static bool cf__hub_is_full(cf__hub *hub)
{
    size_t room = hub->executor->options.queue_limit;
    for (const cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++)
        room += lane->head == lane->tail;
    return cf__hub_pending(hub) + cf__hub_behind(hub) >= room;
}

/* Tasks to workers, in order; then as many new workers as tasks are left over. */
static void cf__hub_feed(cf__hub *hub)
{
    cf_executor *const executor = hub->executor;
    if (cf__load_relaxed(&executor->closing) != 0) cf__hub_wake(hub);
    if (cf__hub_has_stopped(hub)) return;
    cf__hub_hand_out(hub);
    if (hub->queued == 0 && hub->count > 1 && hub->ahead > 1) {
        cf__hub_share_out(hub);
        cf__hub_hand_out(hub);
    }
    if (executor->blocked > 0 && !cf__hub_is_full(hub)) {
        cf__bump(&executor->space);
        cf__unpark_all(&executor->space);
    }
    size_t coming = 0;
    for (const cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++)
        coming += lane->phase == CF__LANE_WANTED || lane->phase == CF__LANE_STARTING;
    const size_t waiting = cf__hub_pending(hub) + cf__hub_behind(hub);
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end && coming < waiting; lane++) {
        if (lane->phase != CF__LANE_EMPTY) continue;
        lane->phase = CF__LANE_WANTED;
        coming++;
        cf__hub_wake(hub);
    }
}

/* ---- starting and ending workers ---- */

/* The pool takes nothing any more; the manager ends what is queued. */
static void cf__hub_break(cf__hub *hub)
{
    cf_executor *const executor = hub->executor;
    cf__store_release(&executor->closing, cf__load_relaxed(&executor->closing) | CF__BROKEN);
    cf__bump(&executor->space);
    cf__unpark_all(&executor->space);
    cf__hub_wake(hub);
}

CF__SHARED void cf__lane_leave(cf__hub *hub, cf__lane *lane)
{
    lane->phase = CF__LANE_LEAVING;
    lane->due = CF__NEVER;
    cf__store_seq_cst(&lane->desk->leave, 1);
    cf__lane_ring(hub, lane);
}

/* What the worker has not begun goes back to the queue; but what was lent lies here until the
 * burial. */
static void cf__lane_recall(cf__hub *hub, cf__lane *lane)
{
    while (lane->head != lane->tail && !cf__is_lent(lane->tasks[(lane->tail - 1) % CF__SLOTS])) {
        cf_future *const future = cf__lane_take_back(hub, lane);
        if (future == NULL) return;
        cf__hub_push_front(hub, future);
    }
}

#define CF__AGAIN (10 * CF_MILLISECOND) /* what was refused is tried again */

/* So that it hits one task only. */
static void cf__lane_kill(cf__hub *hub, cf__lane *lane, int signal)
{
    lane->phase = CF__LANE_LEAVING;
    lane->due = signal == SIGKILL || hub->grace < 0 ? CF__NEVER : cf__deadline(hub->grace);
    cf__lane_recall(hub, lane);
    CFUTURES_TEST_POINT(CF__POINT_KILL);
    const bool ordered = cf__hub_order(hub, lane, CF__ORDER_KILL, signal, -1);
    lane->killed = ordered && signal == SIGKILL;
    lane->untold = ordered ? 0 : signal;
    if (!ordered) lane->due = cf__deadline(CF__AGAIN);
    cf__hub_feed(hub);
    cf__hub_wake(hub);
}

/* A worker could not be started, or died before it was up: again after a pause that grows, and not
 * for ever. A kill from outside says little about the next try. */
static void cf__hub_strike(cf__hub *hub, unsigned weight)
{
    hub->strikes += weight;
    const int64_t pause = (int64_t)hub->strikes * hub->strikes / 8;
    hub->pause = cf__now() + (pause < 250 ? pause : 250) * CF_MILLISECOND;
    if (hub->strikes <= 100) return;
    bool any_up = false;
    for (const cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++)
        any_up = any_up || lane->phase == CF__LANE_UP;
    if (!any_up) cf__hub_break(hub);
    hub->strikes = 100;
    hub->pause = cf__now() + CF_SECOND;
}

static void cf__desk_clear(cf__desk *desk)
{
    cf__store_relaxed(&desk->up, 0);
    cf__store_relaxed(&desk->bell, 0);
    cf__store_relaxed(&desk->pid, 0);
    cf__store_relaxed(&desk->asleep, 0);
    cf__store_relaxed(&desk->leave, 0);
    for (size_t i = 0; i < CF__LOANS; i++) cf__store_relaxed(&desk->loans[i], CF__LOAN_FREE);
    for (size_t i = 0; i < CF__SLOTS; i++) cf__store_relaxed(&desk->slots[i].word, CF__SLOT_FREE);
}

static void cf__lane_start(cf__hub *hub, cf__lane *lane)
{
    int ends[2];
    if (!cf__channel_open(ends)) { /* it stays wanted */
        cf__hub_strike(hub, 12);
        return;
    }
    lane->generation++;
    cf__desk_clear(lane->desk); /* before the worker can see it */
    const bool ordered = cf__hub_order(hub, lane, CF__ORDER_START, 0, ends[1]);
    cf__fd_close(&ends[1]);
    if (!ordered) { /* the zygote has much to do: no fault of the worker's */
        cf__fd_close(&ends[0]);
        hub->pause = cf__deadline(CF__AGAIN);
        return;
    }
    if (lane->started++ > 0) hub->restarts++;
    lane->channel = ends[0];
    lane->phase = CF__LANE_STARTING;
    lane->silent = lane->dead = lane->unrung = false;
    lane->crashed = lane->unborn = lane->killed = lane->stuck = false;
    lane->head = lane->tail = lane->given = 0;
    lane->depth = CF__DEPTH_LEAST;
    lane->due = CF__NEVER;
    lane->verdict = CF_WORKER_LOST;
}

static void cf__lane_clear(cf__lane *lane)
{
    for (size_t i = 0; i < CF__MAPPINGS; i++) {
        cf__mapping_abandon(lane->mappings[i]);
        lane->mappings[i] = NULL;
    }
    for (size_t i = 0; i < CF__TRAYS; i++) {
        cf__tray_drop(&lane->trays[i]);
        lane->trays[i].user = NULL;
        lane->trays[i].version = 0;
    }
    cf__lock(&cf__hubs_lock); /* a fork of the host closes it too */
    cf__fd_close(&lane->channel);
    cf__unlock(&cf__hubs_lock);
    lane->phase = CF__LANE_EMPTY;
    lane->dead = lane->silent = false;
}

/* ---- outcomes ---- */

/* What a task that ran still needs, outside the lock. */
typedef struct cf__ended {
    cf_future        *future;
    cf__lane         *lane;
    cf__slot         *slot;    /* a chunk: its records are still to be read; else NULL */
    bool              lost;    /* the worker died with it */
    int               status;  /* else what the worker has said, once */
    uintptr_t         place;   /* the same */
    cf__mapping      *mapping; /* where they are; NULL: in the slot, or nowhere */
    void             *arg;
    unsigned char     traits;
    cf_submit_options  options;
    /* for an observer */
    cf_task_fn       *fn;
    int64_t           began, over;
} cf__ended;

#define CF__COLLECT 32  /* at once */
#define CF__HEAR    512 /* messages of a worker at once: it might never stop */

/* NULL: refused, or out of memory. */
static cf__mapping *cf__mapping_new(cf__lane *lane, size_t number, int fd)
{
    const bool again = number < CF__LOANS;
    cf__mapping *const mapping = cf__alloc(sizeof *mapping);
    if (mapping == NULL) return NULL;
    *mapping = (cf__mapping){NULL, 0, again ? &lane->desk->loans[number] : NULL, false,
                             cf__load_relaxed(&cf__forks)};
    mapping->size = cf__memory_accept(fd, &mapping->base, again ? CF__KEEP : cf__memory_most());
    if (mapping->size > 0) return mapping;
    cf__free(mapping);
    return NULL;
}

/* Reads what the worker says: wake-ups, and loans. */
static void cf__lane_listen(cf__lane *lane)
{
    for (int left = CF__HEAR; left > 0 && !lane->silent && lane->channel >= 0; left--) {
        unsigned char number;
        int fd;
        const ssize_t got = cf__channel_receive(lane->channel, &number, 1, &fd, MSG_DONTWAIT);
        if (got < 0) return;
        if (got == 0) lane->silent = true;
        else (void)cf__exchange(&lane->desk->bell, 0); /* else the next wake-up were not sent */
        if (fd == -1) continue;
        if (number < CF__MAPPINGS) { /* whatever it was, it is there no more */
            cf__mapping_abandon(lane->mappings[number]);
            lane->mappings[number] = fd >= 0 ? cf__mapping_new(lane, number, fd) : NULL;
        }
        cf__fd_close(&fd);
    }
}

/* The mapping that the slot speaks of, held for the caller. NULL: there is none. */
static cf__mapping *cf__lane_mapping(cf__lane *lane, uintptr_t place)
{
    if (place == 0 || place > CF__MAPPINGS) return NULL;
    cf__lane_listen(lane);
    cf__mapping *const mapping = lane->mappings[place - 1];
    if (place > CF__LOANS) lane->mappings[place - 1] = NULL; /* it was for this outcome only */
    else if (mapping == NULL) cf__store_release(&lane->desk->loans[place - 1], CF__LOAN_LOST);
    if (mapping == NULL) return NULL;
    cf__lock(&cf__hubs_lock);
    const bool was_held = mapping->held; /* no worker lends it twice */
    mapping->held = true;
    cf__unlock(&cf__hubs_lock);
    return was_held ? NULL : mapping;
}

/* bytes of a message, which need not end with a zero. */
static void cf__cell_message_copy(cf__cell *cell, const void *bytes, size_t size)
{
    char *const text = size > 0 ? cf__alloc(size + 1) : NULL;
    if (text == NULL) return;
    memcpy(text, bytes, size);
    text[size] = '\0';
    cell->data = text;
    cell->call.free_result = cf__free;
    cell->traits |= CF__MESSAGE;
}

/* An empty cell takes an outcome that lies there. */
static void cf__cell_outcome(cf__cell *cell, cf__end end, const void *bytes)
{
    const size_t size = end.size;
    cell->status = (signed char)end.status;
    if (end.status == CF_TASK_FAILED) {
        cf__cell_end(cell, end.code != 0 ? end.code : 1);
        cf__cell_message_copy(cell, bytes, size);
    }
    if (end.status != CF_OK) return;
    if (size > CF__INLINE) {
        cell->data = cf__alloc(size);
        if (cell->data == NULL) {
            cell->data = cell->local;
            cell->status = CF_NO_MEMORY;
            return;
        }
        cell->call.free_result = cf__free;
    }
    if (size > 0) memcpy(cell->data, bytes, size);
    cell->size = size;
}

/* The worker wrote what no worker writes: it is out of its mind. */
static void cf__lane_distrust(cf__hub *hub, cf__lane *lane, cf__cell *cell)
{
    cell->status = CF_WORKER_LOST;
    if (lane->phase == CF__LANE_UP) lane->crashed = true;
    cf__lane_kill(hub, lane, SIGKILL);
}

/* From a slot into the empty cell. */
static void cf__slot_outcome(cf__hub *hub, cf__ended *ended, cf__slot *slot, cf__end end)
{
    cf__lane *const lane = ended->lane;
    cf__cell *const cell = &ended->future->cell;
    if (ended->place == 0 || end.status != CF_OK) {
        if (end.status == CF_WORKER_LOST || end.size > CF__SLOT_ROOM)
            cf__lane_distrust(hub, lane, cell);
        else cf__cell_outcome(cell, end, slot->bytes);
        return;
    }
    cf__mapping *const mapping = cf__lane_mapping(lane, ended->place);
    if (mapping == NULL) {
        cell->status = CF_NO_MEMORY; /* no descriptor or no memory was left for it */
    } else if (end.size > mapping->size) {
        cf__mapping_give_back(mapping);
        cf__lane_distrust(hub, lane, cell);
    } else {
        CFUTURES_TEST_RECEIVED(mapping->base, end.size);
        hub->fat = hub->fat || end.size > CF__FAT;
        cell->data = mapping->base;
        cell->size = end.size;
        cell->status = CF_OK;
        cell->call.free_result = cf__mapping_release;
        cell->traits = CF__BY_CELL;
        memcpy(cell->local, &mapping, sizeof mapping);
    }
}

/* A task of the lane that ran, now or until its worker died; the cell of one that is no chunk is
 * empty then. */
static void cf__ended_begin(cf__hub *hub, cf__lane *lane, size_t position, cf__ended *ended)
{
    cf__slot *const slot = cf__lane_slot(lane, position);
    cf_future *const future = lane->tasks[position % CF__SLOTS];
    cf__cell *const cell = &future->cell;
    CFUTURES_TEST_RECEIVED(slot, sizeof *slot);
    memset(ended, 0, sizeof *ended);
    ended->future = future;
    ended->lane = lane;
    ended->place = cf__load_acquire(&slot->place);
    ended->fn = cell->call.fn;
    ended->began = slot->began;
    ended->arg = cell->data;
    ended->traits = cell->traits;
    ended->options = cf__cell_options(cell);
    (void)cf__move(future, CF__PENDING, CF__RUNNING);
    hub->finished++;
    if (!cf__is_chunk(future)) {
        cf__cell_init(cell);
        return;
    }
    ended->slot = slot;
    ended->mapping = cf__lane_mapping(lane, ended->place);
    lane->held |= cf__slot_bit(position);
}

/* The oldest task of the lane has ended. */
static void cf__lane_collect(cf__hub *hub, cf__lane *lane, cf__ended *ended)
{
    const size_t position = lane->head++;
    cf__slot *const slot = cf__lane_slot(lane, position);
    cf_future *const future = lane->tasks[position % CF__SLOTS];
    cf__ended_begin(hub, lane, position, ended);
    const cf__end end = cf__outcome_read(&slot->outcome);
    ended->status = end.status;
    ended->over = slot->ended;
    cf__tray *const tray = cf__lane_tray(lane, future);
    if (tray != NULL) {
        tray->user = NULL;
        /* It may be that the worker failed to map it, and then it gets another. */
        if (end.status == CF_NO_MEMORY || tray->size > CF__KEEP) cf__tray_drop(tray);
    }
    hub->ahead--;
    lane->stalled = 0;
    if (lane->phase == CF__LANE_UP) lane->due = CF__NEVER;
    if (ended->slot != NULL) {
        hub->died += ((const cf__chunk *)ended->arg)->hurt;
    } else {
        cf__slot_outcome(hub, ended, slot, end);
        hub->failed += future->cell.status != CF_OK;
    }
    if (hub->max_tasks > 0 && lane->given >= hub->max_tasks && lane->head == lane->tail &&
        lane->phase == CF__LANE_UP)
        cf__lane_leave(hub, lane);
}

/* Not under the lock. The records of a chunk, as far as they are complete, go into its cells. */
static void cf__chunk_read(cf__chunk *chunk, cf__slot *slot, uintptr_t place, cf__mapping *mapping)
{
    const size_t items = (chunk->count - chunk->ended) * chunk->stride;
    const bool beside = items <= CF__SLOT_ROOM / 2;
    const size_t first = beside ? cf__padded(items) : 0;
    char *at = mapping != NULL ? mapping->base : (char *)slot->bytes + first;
    size_t left = mapping != NULL ? mapping->size : place != 0 ? 0 : CF__SLOT_ROOM - first;
    size_t progress = (size_t)cf__load_acquire(&slot->progress);
    const size_t head = cf__padded(sizeof(cf__outcome));
    CFUTURES_TEST_RECEIVED(at, left);
    if (progress > chunk->count - chunk->ended) progress = chunk->count - chunk->ended;
    for (size_t i = 0; i < progress && left >= head; i++) {
        const cf__end end = cf__outcome_read((cf__outcome *)(void *)at);
        at += head;
        left -= head;
        if (end.size > left || end.status == CF_WORKER_LOST) return;
        cf__cell *const cell = &chunk->cells[chunk->ended];
        cf__cell_init(cell);
        cf__cell_outcome(cell, end, at);
        cf__store_relaxed(&chunk->ran, ++chunk->ended);
        const size_t step = cf__padded(end.size);
        at += step;
        left -= step <= left ? step : left;
    }
}

static void cf__chunk_rest(cf__chunk *chunk, cf_status status)
{
    for (size_t i = chunk->ended; i < chunk->count; i++)
        chunk->cells[i].status = (signed char)status;
}

/* Not under the lock. Callbacks are the manager's. */
static void cf__hub_settle(cf__hub *hub, cf_future *future)
{
    cf__waiter *const callbacks = cf__settle(future);
    if (callbacks == NULL) return;
    cf__waiter *last = callbacks;
    while (last->next != NULL) last = last->next;
    CFUTURES_TEST_POINT(CF__POINT_CALLS);
    cf__hub_lock(hub);
    hub->calling = true;
    *hub->callbacks_end = callbacks;
    hub->callbacks_end = &last->next;
    cf__hub_wake(hub);
    cf__hub_unlock(hub);
}

/* Lets the lock go meanwhile. A task of a desk, claimed, ends without having run. */
static void cf__hub_fail(cf__hub *hub, cf_future *future, cf_status status)
{
    hub->ahead--;
    hub->finished++;
    hub->failed++;
    cf__hub_unlock(hub);
    if (future->home->observer != NULL) cf__tell_unrun(future, status);
    cf__cell_fail(&future->cell, status);
    cf__hub_settle(hub, future);
    cf__hub_lock(hub);
}

/* ---- observer: in a process pool the manager alone collects then, and tells. So one event comes
 * after the other, and a hook that waits for its own pool finds out ---- */

/* Of the lane's worker, and now. */
static void cf__lane_event(const cf__lane *lane, cf_executor *executor, cf_event_kind kind,
                           cf_event *event)
{
    *event = cf__event(executor, kind);
    event->worker = (size_t)(lane - executor->hub->lanes);
    event->pid = lane->greeted > 0 ? lane->greeted : 0;
}

/* The task has begun there, and is over. Times that make no sense are not believed. False: nobody
 * wants to know; else the event is to be completed and told. */
static bool cf__ended_tell_started(const cf__ended *ended, cf_event *event)
{
    cf_executor *const executor = cf__executor_of(ended->future);
    if (executor->heap.observer == NULL) return false;
    cf__lane_event(ended->lane, executor, CF_EVENT_STARTED, event);
    const int64_t now = event->time, began = ended->began;
    const int64_t over = ended->over > 0 && ended->over < now ? ended->over : now;
    event->time = began > 0 && began <= over ? began : over;
    event->task = ended->future;
    event->fn = ended->fn;
    event->items = 1;
    if (ended->slot != NULL) cf__event_of_items(&ended->future->cell, event);
    cf__tell(event);
    event->kind = CF_EVENT_FINISHED;
    event->time = over;
    return true;
}

static const char *cf__signal_name(int signal)
{
    static const struct {
        int  number;
        char name[8];
    } known[] = {{SIGSEGV, "SIGSEGV"}, {SIGABRT, "SIGABRT"}, {SIGBUS, "SIGBUS"},
                 {SIGFPE, "SIGFPE"},   {SIGILL, "SIGILL"},   {SIGKILL, "SIGKILL"},
                 {SIGTERM, "SIGTERM"}, {SIGTRAP, "SIGTRAP"}, {SIGSYS, "SIGSYS"},
                 {SIGPIPE, "SIGPIPE"}, {SIGALRM, "SIGALRM"}, {SIGHUP, "SIGHUP"},
                 {SIGQUIT, "SIGQUIT"}, {SIGXCPU, "SIGXCPU"}, {SIGXFSZ, "SIGXFSZ"},
                 {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].number == signal) return known[i].name;
    return "a signal";
}

/* How a worker died. Returns the number of it. */
static int cf__lane_death(const cf__lane *lane, char *text, size_t size)
{
    if (lane->pid == 0) {
        (void)snprintf(text, size,
                       "the process that started all workers is gone, and they with it");
        return SIGKILL;
    }
    if (WIFSIGNALED(lane->status)) {
        const int signal = WTERMSIG(lane->status);
        (void)snprintf(text, size, "worker %d was killed by signal %d (%s)", lane->pid, signal,
                       cf__signal_name(signal));
        return signal;
    }
    const int status = WEXITSTATUS(lane->status);
    (void)snprintf(text, size, "worker %d exited with status %d", lane->pid, status);
    return status + 256;
}

static void cf__lane_tell_ready(const cf__lane *lane, cf_executor *executor)
{
    cf_event event;
    cf__lane_event(lane, executor, CF_EVENT_WORKER_STARTED, &event);
    cf__tell(&event);
}

/* Manager. If it was told as ready. */
static void cf__lane_tell_ended(cf__lane *lane, cf_executor *executor)
{
    char text[96];
    cf_event event;
    if (lane->greeted == 0) return;
    cf__lane_event(lane, executor, CF_EVENT_WORKER_ENDED, &event);
    lane->greeted = 0;
    const int code = cf__lane_death(lane, text, sizeof text);
    if (lane->crashed || code != 256) {
        event.status = CF_WORKER_LOST;
        event.code = code;
        event.message = text;
    }
    cf__tell(&event);
}

/* An empty cell says how the worker died with its task. */
CF__SHARED void cf__cell_lost(cf__cell *cell, const cf__lane *lane)
{
    char text[96];
    cell->status = (signed char)lane->verdict;
    if (lane->verdict != CF_WORKER_LOST) return;
    cell->code = cf__lane_death(lane, text, sizeof text);
    cf__cell_message_copy(cell, text, strlen(text));
}

/* The slot and the loan are free again. What is left of a chunk whose worker died runs elsewhere,
 * if there will be an elsewhere. False: it does not. */
static bool cf__chunk_give_back(cf__hub *hub, const cf__ended *ended)
{
    cf__chunk *const chunk = ended->arg;
    cf__hub_lock(hub);
    if (ended->mapping != NULL) cf__mapping_give_back(ended->mapping);
    ended->lane->held &= ~cf__slot_bit((size_t)(ended->slot - ended->lane->desk->slots));
    const bool stopped = (cf__load_relaxed(&ended->future->refs) & CF__STOP) != 0;
    const bool again = ended->lost && chunk->ended < chunk->count && !stopped &&
                       !cf__hub_has_stopped(hub) && !hub->lost;
    if (again) {
        hub->finished--;
        hub->died--;
        chunk->hurt = true;
        (void)cf__move(ended->future, CF__RUNNING, CF__PENDING); /* nobody else sees it */
        cf__hub_push_front(hub, ended->future);
    }
    hub->ahead -= ended->lost;
    cf__hub_wake(hub);
    cf__hub_unlock(hub);
    return again;
}

/* Not under the lock. False: what is left of the chunk runs elsewhere. */
static bool cf__chunk_finish(cf__hub *hub, const cf__ended *ended)
{
    cf_future *const future = ended->future;
    cf__chunk *const chunk = ended->arg;
    const size_t first = chunk->ended;
    cf_event event;
    const bool told = cf__ended_tell_started(ended, &event);
    cf__chunk_read(chunk, ended->slot, ended->place, ended->mapping);
    const bool unseen = ended->place != 0 && ended->mapping == NULL; /* as cf__slot_outcome */
    if (ended->lost && chunk->ended < chunk->count)
        cf__cell_lost(&chunk->cells[chunk->ended++], ended->lane);
    else if (ended->status == CF_NO_MEMORY || (ended->status == CF_OK && unseen))
        cf__chunk_rest(chunk, CF_NO_MEMORY);
    else if (ended->status != CF_OK) cf__chunk_rest(chunk, CF_WORKER_LOST);
    cf__store_relaxed(&chunk->ran, chunk->ended);
    const bool rest = ended->lost && chunk->ended < chunk->count;
    if (told) cf__chunk_event(chunk, first, &event);
    if (told) cf__tell(&event);
    if (told && rest) cf__tell_submitted(future); /* another task, to who looks on */
    if (cf__chunk_give_back(hub, ended)) return false;
    if (rest) {
        const cf_status why = cf__hub_is_broken(hub) ? CF_BROKEN : CF_CANCELLED;
        if (told) cf__tell_unrun(future, why);
        cf__chunk_rest(chunk, why);
    }
    chunk->has_run = true;
    cf__cell_drop_arg(&future->cell);
    future->cell.status = CF_OK;
    return true;
}

static void cf__ended_finish(cf__hub *hub, const cf__ended *ended)
{
    cf_event event;
    if (ended->slot != NULL) {
        if (!cf__chunk_finish(hub, ended)) return;
    } else {
        if ((ended->traits & CF__ARG_COPY) != 0) cf__free(ended->arg);
        else if (ended->options.free_arg != NULL) ended->options.free_arg(ended->arg);
        if (cf__ended_tell_started(ended, &event)) cf__tell_finished(&ended->future->cell, &event);
    }
    cf__hub_settle(hub, ended->future);
}

/* Lets the lock go meanwhile. A lent argument gets a copy of its own. False: out of memory. */
static bool cf__hub_keep(cf__hub *hub, cf_future *future)
{
    cf__cell *const cell = &future->cell;
    const void *const from = cell->data;
    const size_t size = cell->size;
    cf__hub_unlock(hub);
    void *const copy = cf__alloc(size);
    if (copy != NULL) memcpy(copy, from, size);
    cf__hub_lock(hub);
    if (copy == NULL || !cf__is_pending(future)) { /* cancelled: its cell is no more ours */
        cf__free(copy);
        return copy != NULL;
    }
    cell->data = copy;
    cell->traits = (unsigned char)((cell->traits & ~CF__ARG_LENT) | CF__ARG_COPY);
    return true;
}

/* Lets the lock go meanwhile. The big argument of the lane's newest task goes to where the worker
 * reads it; nobody else changes that end of the desk as long as it is loading. */
static void cf__hub_load(cf__hub *hub, cf__lane *lane)
{
    const size_t position = lane->tail - 1;
    cf_future *const future = lane->tasks[position % CF__SLOTS];
    cf__tray *const tray = cf__lane_tray(lane, future);
    size_t size;
    const void *const payload = cf__payload(future, &size);
    lane->unloaded = false;
    cf__hub_unlock(hub);
    CFUTURES_TEST_POINT(CF__POINT_LOAD);
    const cf_status status = cf__lane_provide(lane, tray, size);
    const bool placed = status == CF_OK || status == CF_WORKER_LOST;
    if (placed) memcpy(tray->base, payload, size);
    cf__hub_lock(hub);
    if (cf__is_lent(future)) future->cell.data = tray->base;
    lane->loading = placed && status != CF_OK;
    if (status == CF_OK) {
        cf__slot *const slot = cf__lane_slot(lane, position);
        cf__slot_fill(slot, future, size, 1 + (uintptr_t)(tray - lane->trays), tray->version);
        const cf_duration timeout = cf__cell_options(&future->cell).timeout;
        if (timeout > 0 && lane->phase == CF__LANE_UP) cf__lane_time(lane, timeout);
        cf__lane_publish(hub, lane, slot);
    } else if (placed) { /* it goes back now, or when the lane is buried */
        lane->unloaded = true;
        cf__lane_kill(hub, lane, SIGKILL);
    } else {
        (void)cf__move(future, CF__PENDING, CF__RUNNING);
        lane->tail--;
        lane->given--;
        tray->user = NULL;
    }
    cf__bump(&lane->loads);
    cf__unpark_all(&lane->loads);
    cf__hub_wake(hub);
    if (!placed) cf__hub_fail(hub, future, status);
}

static bool cf__lane_wants_load(const cf__lane *lane)
{
    return lane->unloaded && lane->phase == CF__LANE_UP;
}

static void cf__lane_look(cf__hub *hub, cf__lane *lane)
{
    const uintptr_t up = cf__load_acquire(&lane->desk->up);
    if (up == CF__DESK_UP && hub->executor->heap.observer != NULL && lane->greeted == 0) return;
    if (up == CF__DESK_UP) {
        lane->phase = CF__LANE_UP;
        hub->strikes = 0;
    } else if (up == CF__DESK_FAILED) {
        lane->phase = CF__LANE_LEAVING;
        cf__hub_break(hub);
    } else if (up != 0) {
        lane->unborn = true;
        cf__lane_kill(hub, lane, SIGKILL);
    }
}

/* What a worker may have written while it was told not to ring. */
static bool cf__hub_has_news(cf__hub *hub)
{
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        if (cf__lane_has_ended(lane) || cf__lane_wants_load(lane)) return true;
        if (lane->phase == CF__LANE_STARTING && cf__load_seq_cst(&lane->desk->up) != 0) return true;
    }
    return false;
}

/* The program's free_arg runs on the manager, where one that waits for its own pool finds out. */
static bool cf__lane_is_for_manager(const cf__lane *lane)
{
    const cf_future *const future = lane->tasks[lane->head % CF__SLOTS];
    return !cf__is_chunk(future) && cf__cell_options(&future->cell).free_arg != NULL;
}

/* Takes what has ended, up to `most`, and learns how far ahead it pays to hand out. */
static size_t cf__lane_harvest(cf__hub *hub, cf__lane *lane, cf__ended *batch, size_t most)
{
    size_t count = 0;
    while (count < most && cf__lane_has_ended(lane)) {
        if (!cf__is_manager(hub) && cf__lane_is_for_manager(lane)) {
            cf__hub_wake(hub);
            break;
        }
        cf__lane_collect(hub, lane, &batch[count++]);
    }
    if (count == 0) return 0;
    if (lane->head == lane->tail && hub->queued > 0 && lane->depth < CF__SLOTS) lane->depth *= 2;
    else if (4 * count < lane->depth) lane->depth /= 2; /* then it was 8 or more */
    return count;
}

/* Manager. Tells of workers that are ready, which get their first task only after that. */
static void cf__hub_greet(cf__hub *hub)
{
    cf_executor *const executor = hub->executor;
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        cf__hub_lock(hub);
        const bool ready = lane->phase == CF__LANE_STARTING && lane->greeted == 0 &&
                           cf__load_acquire(&lane->desk->up) == CF__DESK_UP;
        cf__hub_unlock(hub);
        if (!ready) continue;
        const long pid = (long)cf__load_relaxed(&lane->desk->pid);
        lane->greeted = pid > 0 ? pid : -1; /* it is out of its mind */
        cf__lane_tell_ready(lane, executor);
    }
}

/* One round: collects what has ended, hands out what waits. True: there was something. */
static bool cf__hub_pump(cf__hub *hub)
{
    cf_executor *const executor = hub->executor;
    cf__ended batch[CF__COLLECT];
    cf__lane *load = NULL;
    size_t count = 0;
    if (executor->heap.observer != NULL) cf__hub_greet(hub);
    cf__hub_lock(hub);
    if (hub->calling && !cf__is_manager(hub)) {
        cf__hub_unlock(hub);
        return false;
    }
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        if (cf__load_relaxed(&lane->desk->bell) != 0) (void)cf__exchange(&lane->desk->bell, 0);
        if (lane->phase == CF__LANE_STARTING) cf__lane_look(hub, lane);
        count += cf__lane_harvest(hub, lane, batch + count, CF__COLLECT - count);
    }
    cf__hub_feed(hub);
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end && load == NULL; lane++)
        if (cf__lane_wants_load(lane)) load = lane;
    cf__hub_unlock(hub);
    CFUTURES_TEST_POINT(CF__POINT_OUTCOME);
    for (size_t i = 0; i < count; i++) cf__ended_finish(hub, &batch[i]);
    if (load == NULL) return count > 0;
    cf__hub_lock(hub);
    if (cf__lane_wants_load(load)) cf__hub_load(hub, load);
    cf__hub_unlock(hub);
    return true;
}

/* ---- death ---- */

/* Lets the lock go meanwhile. The lane's newest task goes back to the queue, what was lent with a
 * copy of its own. False: it has started. */
static bool cf__lane_rescue(cf__hub *hub, cf__lane *lane)
{
    cf_future *const future = cf__lane_take_back(hub, lane);
    if (future == NULL) return false;
    if (cf__is_lent(future)) {
        hub->ahead++;         /* keeps its place in the queue, */
        lane->loading = true; /* and the tray, which is being read */
        const bool kept = cf__hub_keep(hub, future);
        lane->loading = false;
        if (!kept && cf__move(future, CF__PENDING, CF__RUNNING)) {
            cf__hub_fail(hub, future, CF_NO_MEMORY);
            return true;
        }
        hub->ahead--;
    }
    cf__hub_push_front(hub, future);
    return true;
}

/* Lets the lock go meanwhile. The dead lane's newest task: lost, if it was running, else it goes
 * back. */
static void cf__lane_return(cf__hub *hub, cf__lane *lane)
{
    if (cf__lane_rescue(hub, lane)) return;
    const size_t position = --lane->tail;
    cf__ended ended;
    cf__ended_begin(hub, lane, position, &ended);
    ended.lost = true;
    if (ended.slot == NULL) {
        hub->ahead--; /* what is left of a chunk may need its place */
        cf__cell_lost(&ended.future->cell, lane);
    }
    if (ended.slot != NULL || lane->verdict == CF_WORKER_LOST) hub->died++;
    else hub->failed++;
    cf__hub_unlock(hub);
    CFUTURES_TEST_POINT(CF__POINT_LOSE);
    cf__ended_finish(hub, &ended);
    cf__hub_lock(hub);
}

/* Manager. The worker is dead and its outcomes are collected: what it ran is lost, the rest goes
 * back. */
static void cf__lane_bury(cf__hub *hub, cf__lane *lane)
{
    cf_executor *const executor = hub->executor;
    CFUTURES_TEST_POINT(CF__POINT_BURY);
    cf__hub_lock(hub);
    const bool bad_start = lane->phase == CF__LANE_STARTING || lane->unborn;
    if (lane->phase == CF__LANE_UP) lane->crashed = true;
    lane->phase = CF__LANE_LEAVING;
    if (lane->crashed && hub->break_on_crash) cf__hub_break(hub);
    while (lane->tail != lane->head) cf__lane_return(hub, lane);
    const bool by_kill =
        lane->pid > 0 && WIFSIGNALED(lane->status) && WTERMSIG(lane->status) == SIGKILL;
    cf__lane_clear(lane);
    cf__hub_unlock(hub);
    cf__lane_tell_ended(lane, executor);
    cf__hub_lock(hub);
    if (bad_start) cf__hub_strike(hub, by_kill ? 1 : 12);
    cf__hub_feed(hub);
    cf__hub_unlock(hub);
}

/* ---- manager ---- */

/* Tells the zygote to end, if it has not, and waits until it and all workers have. */
static void cf__zygote_wait(cf__hub *hub)
{
    cf__hub_lock(hub);
    cf__lock(&cf__hubs_lock);
    if (hub->channel >= 0) (void)shutdown(hub->channel, SHUT_RDWR); /* whoever holds a copy */
    cf__fd_close(&hub->channel);
    cf__unlock(&cf__hubs_lock);
    cf__hub_unlock(hub);
    while (hub->zygote > 0 && waitpid(hub->zygote, NULL, 0) < 0 && errno == EINTR) {}
    hub->zygote = 0; /* or the host has reaped it: its number may be a stranger's from now on */
}

/* The zygote's reports. Without a zygote no worker is left either. */
static void cf__manager_hear(cf__hub *hub)
{
    cf__report report;
    cf__hub_lock(hub);
    while (!hub->lost) {
        int fd;
        const ssize_t got = cf__channel_receive_whole(hub->channel, &report, sizeof report, &fd,
                                                      MSG_DONTWAIT);
        if (got < 0) break;
        if (got == 0) hub->lost = true;
        if (got == 0 || report.lane >= hub->count) continue;
        cf__lane *const lane = &hub->lanes[report.lane];
        if (lane->generation != report.generation) continue;
        lane->dead = true;
        lane->pid = report.pid;
        lane->status = report.status;
    }
    if (hub->lost && !cf__hub_is_broken(hub)) cf__hub_break(hub);
    for (cf__lane *lane = hub->lanes; hub->lost && lane < hub->lanes_end; lane++) {
        if (lane->phase == CF__LANE_WANTED) lane->phase = CF__LANE_EMPTY;
        if (lane->phase == CF__LANE_EMPTY || lane->dead) continue;
        lane->dead = true;
        lane->pid = 0;
        lane->status = SIGKILL;
    }
    const bool lost = hub->lost;
    cf__hub_unlock(hub);
    if (lost) cf__zygote_wait(hub);
}

#define CF__LATE (100 * CF_MILLISECOND) /* a worker that has not begun by then is stuck */

/* The deadline was set when the task was given; it counts from the task's start. Each way once,
 * lest a worker that is out of its mind puts it off for ever. */
static bool cf__lane_extend(cf__lane *lane, int64_t now)
{
    cf__slot *const slot = cf__lane_slot(lane, lane->head);
    const cf_future *const future = lane->tasks[lane->head % CF__SLOTS];
    const int64_t most = now - (lane->nominal - cf__cell_options(&future->cell).timeout);
    const int64_t said = (int32_t)(cf__load_relaxed(&slot->delay) & INT32_MAX) * CF_MICROSECOND;
    const int64_t exact = lane->nominal + (said < most ? said : most);
    const bool begun = cf__load_acquire(&slot->word) != CF__SLOT_READY;
    const bool extends = begun ? !lane->exact && exact > now : !lane->late;
    if (!extends) return false;
    lane->exact = begun;
    lane->late = true;
    lane->due = begun ? exact : now + CF__LATE;
    return true;
}

static bool cf__lane_has_begun(cf__lane *lane)
{
    return cf__load_relaxed(&cf__lane_slot(lane, lane->head)->word) != CF__SLOT_READY;
}

/* Its worker had nothing to do, and yet has not begun the task; or others wait behind the one that
 * it runs. */
static bool cf__lane_keeps_waiting(cf__lane *lane)
{
    return lane->phase == CF__LANE_UP && lane->head != lane->tail && !lane->loading &&
           (cf__lane_load(lane) > 1 || !cf__lane_has_begun(lane));
}

static bool cf__hub_has_spare(const cf__hub *hub)
{
    for (const cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++)
        if (lane->phase == CF__LANE_EMPTY || (cf__lane_is_idle(lane) && !lane->stuck)) return true;
    return false;
}

/* Lets the lock go meanwhile. A worker holds nobody up for long: what stands behind a task that
 * goes on and on is first in the queue again; and a worker that is stopped from outside, or
 * starved, is left without tasks if there is another one, or may be. */
static void cf__lane_relieve(cf__hub *hub, cf__lane *lane, int64_t now)
{
    if (lane->stuck && cf__load_seq_cst(&lane->desk->asleep) != 0) {
        lane->stuck = false;
        cf__hub_feed(hub);
    }
    if (!cf__lane_keeps_waiting(lane)) return;
    const bool late = lane->stalled != 0 && now >= lane->stalled;
    if (late || lane->stalled == 0) lane->stalled = now + CF__LATE;
    if (!late) return;
    if (cf__lane_has_begun(lane)) {
        cf__lane_recall(hub, lane);
        lane->depth = 1; /* until that task has ended */
    } else {
        if (!cf__hub_has_spare(hub)) return;
        while (cf__lane_rescue(hub, lane)) {}
        lane->stuck = lane->head == lane->tail; /* else it has begun in the last moment */
    }
    cf__hub_feed(hub);
}

static void cf__lane_tick(cf__hub *hub, cf__lane *lane, int64_t now)
{
    if (lane->unrung) cf__lane_ring(hub, lane);
    if (hub->count > 1) cf__lane_relieve(hub, lane, now);
    if (lane->silent && !lane->dead && lane->phase >= CF__LANE_STARTING && !lane->killed) {
        if (lane->phase == CF__LANE_UP) lane->crashed = true;
        if (lane->phase == CF__LANE_STARTING) lane->unborn = true;
        cf__lane_kill(hub, lane, SIGKILL); /* it closed its channel: of no use any more */
    } else if (lane->phase == CF__LANE_UP && lane->head != lane->tail && now >= lane->due) {
        if (cf__lane_extend(lane, now)) return;
        cf__lane_recall(hub, lane); /* so that nothing begins between the look and the signal */
        if (cf__lane_has_ended(lane)) return;
        lane->verdict = CF_TASK_TIMEOUT;
        cf__store_relaxed(&cf__lane_slot(lane, lane->head)->stop, CF__STOP);
        cf__lane_kill(hub, lane, SIGTERM);
    } else if (lane->phase == CF__LANE_LEAVING && now >= lane->due) {
        cf__lane_kill(hub, lane, lane->untold != 0 ? lane->untold : SIGKILL);
    } else if (lane->phase == CF__LANE_WANTED && now >= hub->pause) {
        cf__lane_start(hub, lane);
    }
}

/* Deadlines, starts, and who may leave. True: all have left. */
static bool cf__manager_tick(cf__hub *hub)
{
    const int64_t now = cf__now();
    bool done = true;
    cf__hub_lock(hub);
    cf__hub_strip(hub);
    const bool stopped = cf__hub_has_stopped(hub);
    const bool breaks = hub->break_on_crash && cf__hub_is_broken(hub);
    const bool ends = hub->queued == 0 &&
                      (cf__load_relaxed(&hub->executor->closing) & CF__CLOSING) != 0;
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        if (lane->phase == CF__LANE_WANTED && (stopped || ends)) lane->phase = CF__LANE_EMPTY;
        if (ends && cf__lane_is_idle(lane)) cf__lane_leave(hub, lane);
        if (breaks && lane->phase == CF__LANE_UP) {
            if (lane->head != lane->tail) lane->verdict = CF_BROKEN;
            cf__lane_kill(hub, lane, SIGKILL);
        }
        cf__lane_tick(hub, lane, now);
        done = done && lane->phase == CF__LANE_EMPTY;
    }
    done = done && ends && hub->callbacks == NULL && hub->pumping == 1; /* others settle, too */
    cf__hub_unlock(hub);
    return done;
}

/* Callbacks of what was settled, here or by callers. */
static bool cf__manager_call_back(cf__hub *hub)
{
    cf__hub_lock(hub);
    cf__waiter *node = hub->callbacks;
    const bool any = hub->calling = node != NULL;
    hub->callbacks = NULL;
    hub->callbacks_end = &hub->callbacks;
    cf__hub_unlock(hub);
    for (cf__waiter *next; node != NULL; node = next) {
        next = node->next;
        cf__run_callback(node->future, node);
    }
    return any;
}

/* Until all is calm, but not for so long that deadlines and deaths would have to wait. */
static void cf__manager_pump(cf__hub *hub)
{
    for (int rounds = 0; rounds < 64; rounds++) {
        const bool pumped = cf__hub_pump(hub);
        if (!cf__manager_call_back(hub) && !pumped) return;
    }
}

static bool cf__lane_is_ripe(const cf__lane *lane)
{
    return lane->dead && lane->held == 0 && !cf__lane_is_copying(lane) &&
           lane->phase != CF__LANE_EMPTY;
}

/* Its end of file was seen by somebody else, who left what is to be done to the manager. */
static bool cf__lane_is_cut_off(const cf__lane *lane)
{
    return lane->silent && !lane->dead &&
           (lane->phase == CF__LANE_STARTING || lane->phase == CF__LANE_UP);
}

static bool cf__manager_bury(cf__hub *hub)
{
    bool any = false;
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        cf__hub_lock(hub);
        const bool due = cf__lane_is_ripe(lane) && !cf__lane_has_ended(lane);
        cf__hub_unlock(hub);
        if (due) cf__lane_bury(hub, lane);
        any = any || due;
    }
    return any;
}

/* What can never start any more. */
static void cf__manager_withdraw(cf__hub *hub)
{
    cf__hub_lock(hub);
    const bool killed = hub->killing != 0;
    cf__hub_unlock(hub);
    if (killed) cf__withdraw(hub->executor, CF_CANCELLED);
    else if (cf__hub_is_broken(hub)) cf__withdraw(hub->executor, CF_BROKEN);
}

static void cf__memory_slim(void *base, size_t size)
{
#ifdef MADV_REMOVE
    const int saved = errno;
    if (size > CF__FAT) (void)madvise(base, size, MADV_REMOVE);
    errno = saved;
#else
    (void)base;
    (void)size;
#endif
}

/* Nothing has happened for a second: the pages of big payloads go back to the system. */
static void cf__hub_slim(cf__hub *hub)
{
    hub->fat = false;
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        hub->fat = hub->fat || cf__lane_load(lane) > 0;
        if (!cf__lane_is_idle(lane)) continue;
        for (size_t k = 0; k < CF__TRAYS; k++)
            cf__memory_slim(lane->trays[k].base, lane->trays[k].size);
        for (size_t k = 0; k < CF__LOANS; k++) {
            const cf__mapping *const mapping = lane->mappings[k];
            cf__lock(&cf__hubs_lock);
            const bool is_free = mapping != NULL && !mapping->held;
            cf__unlock(&cf__hubs_lock);
            if (is_free) cf__memory_slim(mapping->base, mapping->size);
        }
    }
}

#define CF__SLIM_AFTER (1 * CF_SECOND)
#define CF__LONGEST    (60 * CF_SECOND) /* what poll is asked for at once */

/* Under the lock: how long the manager may sleep, in poll's milliseconds. */
static int cf__manager_patience(cf__hub *hub)
{
    const int64_t now = cf__now();
    cf__heap *const heap = &hub->executor->heap;
    const bool keeps = cf__heap_is_big(heap) && cf__load_relaxed(&heap->quiet) == 0;
    int64_t next = hub->fat || keeps ? now + CF__SLIM_AFTER : CF__NEVER;
    hub->watching = hub->given; /* so it is woken once for many that are given in a row */
    hub->given = false;
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        const bool waits = lane->stuck ? hub->queued > 0 || cf__hub_behind(hub) > 0
                                       : hub->count > 1 && cf__lane_keeps_waiting(lane);
        hub->watching = hub->watching || waits;
        int64_t due = CF__NEVER;
        if (lane->phase == CF__LANE_WANTED) due = hub->pause;
        else if (lane->unrung && !lane->dead) due = now + CF_MILLISECOND;
        else if (lane->head != lane->tail || lane->phase == CF__LANE_LEAVING) due = lane->due;
        if (due < next) next = due;
    }
    /* Without a zygote nothing would wake it, were its descriptors closed once more. */
    const bool looks = hub->watching || hub->lost;
    if (looks && next > now + CF__LATE) next = now + CF__LATE;
    if (next == CF__NEVER) return -1;
    if (next > now + CF__LONGEST) next = now + CF__LONGEST;
    return next > now ? (int)((next - now) / CF_MILLISECOND) + 1 : 0;
}

/* Announces the sleep, then looks once more: what others did since the round began has stirred it,
 * what they do from now on sends a byte. -2: there is something to do. */
static int cf__manager_lie_down(cf__hub *hub, nfds_t *count)
{
    cf__hub_lock(hub);
    hub->napping = true;
    if (hub->calm != hub->finished) cf__store_relaxed(&hub->executor->heap.quiet, 0);
    hub->calm = hub->finished;
    cf__hub_attend(hub, -1);
    bool work = hub->stirred || hub->callbacks != NULL || cf__hub_has_news(hub) ||
                (hub->queued > 0 && cf__hub_has_stopped(hub));
    *count = 2;
    hub->polled[0] = (struct pollfd){hub->wake.fd, POLLIN, 0};
    hub->polled[1] = (struct pollfd){hub->lost ? -1 : hub->channel, POLLIN, 0};
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        work = work || cf__lane_is_ripe(lane) || cf__lane_is_cut_off(lane);
        if (lane->channel >= 0 && !lane->silent)
            hub->polled[(*count)++] = (struct pollfd){lane->channel, POLLIN, 0};
    }
    const int patience = work ? -2 : cf__manager_patience(hub);
    cf__hub_unlock(hub);
    return patience;
}

/* What ends the sleep: a byte from a worker, a submitter or the zygote, or the next deadline. */
static void cf__manager_nap(cf__hub *hub)
{
    nfds_t count;
    const int patience = cf__manager_lie_down(hub, &count);
    CFUTURES_TEST_POINT(CF__POINT_POLL);
    const bool expired = patience != -2 && poll(hub->polled, count, patience) == 0;
    cf__hub_lock(hub);
    const bool calm = expired && hub->finished == hub->calm;
    if (calm && hub->fat) cf__hub_slim(hub);
    if (calm) cf__store_relaxed(&hub->executor->heap.quiet, 1);
    cf__hub_attend(hub, 1);
    hub->napping = hub->stirred = false;
    if (patience != -2) {
        if (!cf__signal_set(&hub->wake, CF__NEVER, false)) cf__hub_disown(hub);
        for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) cf__lane_listen(lane);
    }
    cf__hub_unlock(hub);
    if (calm) (void)cf__heap_trim(&hub->executor->heap, 0);
}

static cf__thread_result cf__manager_main(void *arg)
{
    cf__hub *const hub = arg;
    cf_executor *const executor = hub->executor;
    cf__visit visit = {executor, NULL}; /* so that a shutdown from a callback knows */
    cf__visits = &visit;
    cf__self = &hub->runner;
    cf__thread_name(executor->name, hub->count);
    for (;;) {
        cf__manager_pump(hub);
        cf__manager_hear(hub);
        if (cf__manager_bury(hub)) continue;
        cf__manager_withdraw(hub);
        if (cf__manager_tick(hub)) break;
        CFUTURES_TEST_POINT(CF__POINT_NAP);
        cf__manager_nap(hub);
    }
    cf__zygote_wait(hub);
    cf__self = NULL;
    cf__visits = NULL;
    cf__lock(&executor->lock);
    executor->alive--;
    cf__leave_unlock(executor, NULL);
    return (cf__thread_result)0;
}

/* ---- what the other sections ask ---- */

static bool cf__hub_accepts_code(uintptr_t fn)
{
#ifdef __linux__
    extern const char __executable_start[] __attribute__((weak, visibility("hidden")));
    extern const char etext[] __attribute__((weak, visibility("hidden")));
    return fn == 0 || (fn >= (uintptr_t)__executable_start && fn < (uintptr_t)etext);
#else
    return fn == 0;
#endif
}

static bool cf__hub_accepts(cf_executor *executor, cf_task_fn *fn, const void *arg)
{
    if (executor->options.start_method != CF_START_SPAWN) return true; /* no hub is needed */
    return cf__hub_accepts_code((uintptr_t)fn) &&
           (fn != cf__chunk_main || cf__hub_accepts_code((uintptr_t)((const cf__chunk *)arg)->fn));
}

/* What ends the wait: a task was taken or cancelled (space), or the pool closes or breaks. */
static cf_status cf__hub_admit(cf__hub *hub)
{
    cf_executor *const executor = hub->executor;
    cf_status status = cf__refusal(executor);
    if (status != CF_OK || executor->options.queue_limit == 0 || !cf__hub_is_full(hub))
        return status;
    if (executor->options.on_full == CF_FULL_REJECT || cf__is_manager(hub)) return CF_QUEUE_FULL;
    executor->blocked++;
    while (status == CF_OK && cf__hub_is_full(hub)) {
        const uintptr_t seen = cf__load_relaxed(&executor->space);
        cf__hub_unlock(hub);
        status = cf__await_pool(executor, &executor->space, seen, CF__NEVER);
        cf__hub_lock(hub);
        if (cf__refusal(executor) != CF_OK) status = cf__refusal(executor);
    }
    executor->blocked--;
    return status;
}

/* Room in the queue, and for a lent argument an idle lane, or else a copy. Lets the lock go
 * meanwhile. */
static cf_status cf__hub_prepare(cf__hub *hub, cf_future *first, size_t count, cf__lane **direct)
{
    for (*direct = NULL;;) {
        const cf_status status = cf__hub_admit(hub);
        if (status != CF_OK) return status;
        if (!cf__hub_reserve(hub, count)) return CF_NO_MEMORY;
        const cf_status refused = cf__refusal(hub->executor); /* again, since the lock was let go */
        if (refused != CF_OK || !cf__is_lent(first)) return refused;
        cf__hub_strip(hub);
        if (hub->queued == 0) *direct = cf__hub_lane_for(hub, first);
        if (*direct != NULL) return CF_OK;
        if (!cf__hub_keep(hub, first)) return CF_NO_MEMORY;
    }
}

static cf_status cf__hub_submit(cf_executor *executor, cf_future **futures, size_t count)
{
    cf__lane *direct = NULL;
    cf__lock(&executor->lock);
    cf__hub *const hub = executor->hub;
    executor->visitors++;
    const cf_status status = hub == NULL ? cf__refusal(executor) /* closed: a map may outlive it */
                                         : cf__hub_prepare(hub, futures[0], count, &direct);
    if (status == CF_OK) {
        hub->submitted += count;
        for (size_t i = 0; i < count; i++) cf__hub_push(hub, futures[i]);
        if (direct != NULL) {
            cf__lane_give(hub, direct, cf__hub_pop(hub));
            cf__hub_load(hub, direct); /* here, while the argument is there */
        } else {
            cf__hub_feed(hub);
        }
    }
    executor->visitors--;
    cf__leave_unlock(executor, NULL);
    return status;
}

static cf_future *cf__hub_take(cf_executor *executor)
{
    cf__hub *const hub = executor->hub;
    cf__lock(&executor->lock);
    cf_future *future = cf__hub_pop(hub);
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end && future == NULL; lane++)
        future = cf__lane_take_back(hub, lane);
    cf__unlock(&executor->lock);
    return future;
}

/* The lane at whose desk the task is, and where. NULL: no worker has it. */
static cf__lane *cf__hub_find(cf__hub *hub, cf_future *future, size_t *position)
{
    const uintptr_t at = cf__load_relaxed(&future->runner);
    if (hub == NULL || at < (uintptr_t)hub->lanes || at >= (uintptr_t)hub->lanes_end)
        return NULL;
    cf__lane *const lane = (cf__lane *)at;
    for (*position = lane->head; *position != lane->tail; ++*position)
        if (lane->tasks[*position % CF__SLOTS] == future) return lane;
    return NULL;
}

static bool cf__lane_is_loading(const cf__lane *lane, size_t position)
{
    return lane->loading && position == lane->tail - 1;
}

/* Has the task begun, and how many items has it run, if it is a chunk? */
static bool cf__hub_peek(cf_future *future, size_t *items)
{
    cf_executor *const executor = cf__executor_of(future);
    size_t position;
    bool started = false;
    *items = 0;
    cf__lock(&executor->lock);
    cf__lane *const lane = cf__hub_find(executor->hub, future, &position);
    if (lane != NULL && !cf__lane_is_loading(lane, position)) {
        cf__slot *const slot = cf__lane_slot(lane, position);
        started = cf__load_acquire(&slot->word) != CF__SLOT_READY;
        *items = (size_t)cf__load_relaxed(&slot->progress);
    }
    cf__unlock(&executor->lock);
    return started;
}

/* cf__heap's has_started. */
static bool cf__hub_has_started(cf_future *future)
{
    size_t items;
    return !cf__is_foreign(future) && cf__hub_peek(future, &items);
}

/* For cancel: from PENDING to SETTLING. False: the worker was faster, and is asked to stop. What
 * ends the wait: somebody has copied the argument. */
static bool cf__hub_claim(cf_executor *executor, cf_future *future)
{
    cf__lane *lane;
    size_t position = 0;
    cf__lock(&executor->lock);
    cf__hub *const hub = executor->hub;
    while ((lane = cf__hub_find(hub, future, &position)) != NULL && cf__lane_is_copying(lane)) {
        const uintptr_t seen = cf__load_relaxed(&lane->loads);
        cf__unlock(&executor->lock);
        (void)cf__park(&lane->loads, seen, CF__NEVER);
        cf__lock(&executor->lock);
    }
    for (cf_future *newest = NULL; lane != NULL && newest != future;
         cf__hub_push_front(hub, newest)) {
        newest = cf__lane_take_back(hub, lane);
        if (newest != NULL) continue;
        cf__slot *const slot = cf__lane_slot(lane, position);
        cf__store_relaxed(&slot->stop, CF__STOP);
        if (cf__load_acquire(&slot->word) != CF__SLOT_READY)
            (void)cf__move(future, CF__PENDING, CF__RUNNING);
        break;
    }
    const bool claimed =
        cf__hub_find(hub, future, &position) == NULL &&
        cf__claim_entry(executor, future, CF__SETTLING); /* the lock's holder drops it later */
    if (hub != NULL && (claimed || lane != NULL)) cf__hub_feed(hub);
    cf__unlock(&executor->lock);
    return claimed;
}

/* Who looked at the desks does so no more. Where no worker has anything to do it need not know:
 * mostly the same caller is back soon, and else cf__lane_publish says it. */
static void cf__hub_depart(cf__hub *hub)
{
    bool is_calm = hub->ahead == 0;
    for (const cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++)
        is_calm = is_calm && lane->phase != CF__LANE_STARTING;
    hub->pumping--;
    if (!is_calm) cf__hub_announce(hub);
    if (cf__hub_has_news(hub) || cf__load_relaxed(&hub->executor->closing) != 0) cf__hub_wake(hub);
}

/* A caller that waits looks at the desks itself as long as spinning pays; then no worker has to
 * wake the manager, nor the manager the caller. Ends when (word & mask) is at least that. */
static void cf__hub_spin(cf_executor *executor, cf__word *word, uintptr_t mask, uintptr_t least)
{
    cf__hub *hub;
    cf__visit visit;
    cf__lock(&executor->lock);
    hub = executor->hub;
    if (hub == NULL || executor->cpus < 2 || cf__is_manager(hub) ||
        executor->heap.observer != NULL) {
        cf__unlock(&executor->lock);
        return;
    }
    cf__visit_begin(&visit, executor);
    cf__hub_attend(hub, 1);
    cf__unlock(&executor->lock);
    CFUTURES_TEST_POINT(CF__POINT_PUMP);
    const int64_t end = cf__now() + (int64_t)cf__load_relaxed(&executor->spin);
    bool in_time = true;
    for (unsigned i = 1; (cf__load_acquire(word) & mask) < least && in_time; i++) {
        if (cf__hub_pump(hub)) continue;
        cf__pause();
        if (i % 16 == 0)
            cf__spin_yield(&hub->crowded); /* the worker may be waiting for this very CPU */
        in_time = cf__now() < end;
    }
    CFUTURES_TEST_POINT(CF__POINT_PUMPED);
    cf__lock(&executor->lock);
    cf__hub_depart(hub);
    cf__unlock(&executor->lock);
    cf__visit_end(&visit);
}

static size_t cf__hub_progress(cf_future *future)
{
    size_t items = 0;
    if (!cf__is_foreign(future) && cf__load_relaxed(&future->runner) != 0)
        (void)cf__hub_peek(future, &items);
    return items;
}

static void cf__hub_closing(cf_executor *executor)
{
    cf__lock(&executor->lock);
    cf__hub_wake(executor->hub);
    cf__unlock(&executor->lock);
}

static void cf__hub_stats(cf_executor *executor, cf_stats *out)
{
    cf__hub *const hub = executor->hub;
    for (const cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        if (lane->phase != CF__LANE_EMPTY) out->workers++;
        if (cf__lane_is_idle(lane)) out->idle++;
        out->running += lane->head != lane->tail;
    }
    const uint64_t gone = hub->finished + executor->cancelled + executor->withdrawn + out->running;
    out->submitted = hub->submitted;
    out->queued = hub->submitted > gone ? (size_t)(hub->submitted - gone) : 0;
    out->finished = hub->finished;
    out->failed = hub->failed + hub->died;
    out->cancelled = executor->cancelled;
    out->lost = hub->died;
    out->restarts = hub->restarts;
}

/* The last thread out may be the manager itself. */
static void cf__hub_join(cf_executor *executor)
{
    cf__hub *const hub = executor->hub;
    if (pthread_equal(pthread_self(), hub->manager) != 0) cf__thread_detach(hub->manager);
    else cf__thread_join(hub->manager);
}

static void cf__hub_free(cf__hub *hub)
{
    cf__lock(&cf__hubs_lock);
    if (hub->link != NULL) {
        *hub->link = hub->next;
        if (hub->next != NULL) hub->next->link = hub->link;
    }
    cf__hub_shut(hub);
    cf__unlock(&cf__hubs_lock);
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) cf__lane_clear(lane);
    if (hub->share != NULL) (void)munmap((void *)hub->share, cf__share_size(hub->count));
    cf__free((void *)hub->queue);
    cf__free(hub);
}

static void cf__hub_end(cf_executor *executor)
{
    const int saved = errno;
    const bool ours =
        !cf__is_foreign_heap(&executor->heap); /* else who holds the lock is not here */
    cf__hub *const hub = executor->hub;
    if (ours) cf__lock(&executor->lock);
    executor->hub = NULL;
    if (ours) cf__unlock(&executor->lock);
    if (hub != NULL) cf__hub_free(hub);
    errno = saved;
}

/* Items by chunks of sensible size, in order: so the first failure is the lowest, and what is left
 * when time runs out begins where the results end. */
static cf_status cf__hub_map_array(cf_executor *executor, cf_task_fn *fn, const void *items,
                                   size_t item_size, void *results, size_t result_size,
                                   size_t count, const cf_map_options *options, size_t *failed)
{
    cf_map_options own = *options;
    cf_status first = CF_OK;
    own.next_item = NULL;
    own.unordered = false;
    own.buffersize = 0;
    if (own.chunksize == 0) own.chunksize = count / (4 * executor->max_workers) + 1;
    if (result_size > 0) memset(results, 0, count * result_size);
    cf_map_iter *const iter = cf_executor_map(executor, fn, items, count, item_size, &own);
    if (iter == NULL) return CF_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        cf_status status;
        const void *const result = cf_map_next(iter, &status);
        const size_t size = cf_map_result_size(iter);
        if (result != NULL && size <= result_size) {
            if (size > 0) memcpy((char *)results + i * result_size, result, size);
            continue;
        }
        if (first == CF_OK) {
            first = result != NULL ? CF_INVALID : status;
            if (failed != NULL) *failed = i;
        }
        if (own.stop_on_error || status == CF_TIMEOUT || status == CF_DEADLOCK || status == CF_END)
            break;
    }
    cf_map_close(iter);
    return first;
}

static const cf__processes cf__process_backend = {
    cf__hub_accepts, cf__hub_submit, cf__hub_take, cf__hub_claim, cf__hub_spin, cf__hub_closing,
    cf__hub_join, cf__hub_end, cf__hub_stats, cf__hub_progress, cf__hub_map_array};

/* ---- make ---- */

static cf__word cf__process_main_called;

static uintptr_t cf__share_check(void)
{
    return ((uintptr_t)&cf__chunk_main - (uintptr_t)&cf_process_main) ^ sizeof(cf__desk) ^
           (sizeof(cf__share) << 16);
}

static bool cf__hub_share(cf__hub *hub, int *fd)
{
    const size_t size = cf__share_size(hub->count);
    void *base;
    *fd = -1;
    if (hub->spawn) {
        *fd = cf__memory_open(size);
        base = *fd >= 0 ? cf__memory_map(*fd, size) : NULL;
    } else {
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) base = NULL;
    }
    if (base == NULL) cf__fd_close(fd);
    hub->share = base;
    return base != NULL;
}

/* With its lanes, and whatever else there is one of for each, in one block. */
static cf__hub *cf__hub_alloc(size_t count)
{
    const size_t each = sizeof(cf__lane) + sizeof(cf__kid) + sizeof(struct pollfd);
    const size_t size = cf__size(sizeof(cf__hub) + 2 * sizeof(struct pollfd), count, each);
    cf__hub *const hub = cf__alloc(size);
    if (hub == NULL) return NULL;
    memset(hub, 0, size);
    hub->count = count;
    hub->lanes = (cf__lane *)(void *)(hub + 1);
    hub->lanes_end = hub->lanes + count;
    hub->kids = (cf__kid *)(void *)hub->lanes_end;
    hub->polled = (struct pollfd *)(void *)(hub->kids + count);
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) lane->channel = -1;
    return hub;
}

static void cf__share_fill(cf__hub *hub, const cf_pool_options *options)
{
    cf__share *const share = hub->share;
    cf__store_relaxed(&share->pumping, 1);
    hub->pumping = 1;
    hub->announced = true;
    share->check = cf__share_check();
    share->initializer =
        options->initializer != NULL ? cf__function_out((uintptr_t)options->initializer) : 0;
    share->finalizer =
        options->finalizer != NULL ? cf__function_out((uintptr_t)options->finalizer) : 0;
    share->worker_arg = (uintptr_t)options->worker_arg;
    share->lanes = hub->count;
    share->spins = hub->executor->cpus > 1;
    share->observed = options->observer != NULL;
    memcpy(share->name, hub->executor->name, sizeof share->name);
    for (size_t i = 0; i < hub->count; i++) hub->lanes[i].desk = cf__desk_at(share, i);
}

static char cf__zygote_word[] = "--cfutures-zygote";

/* In the child of the fork: this program anew. Only calls that are safe there. */
static _Noreturn void cf__zygote_exec(char *numbers, int channel, int memory)
{
    static char program[] = "cfutures";
    char *const arguments[] = {program, cf__zygote_word, numbers, NULL};
    (void)fcntl(channel, F_SETFD, 0);
    (void)fcntl(memory, F_SETFD, 0);
    (void)execv("/proc/self/exe", arguments);
    _exit(127);
}

/* Its descriptors, known from the first moment to whoever forks the host. False: none could be had;
 * they go with the hub. */
static bool cf__hub_open(cf__hub *hub)
{
    int ends[2] = {-1, -1};
    cf__lock(&cf__hubs_lock);
    hub->next = cf__hubs;
    hub->link = &cf__hubs;
    if (cf__hubs != NULL) cf__hubs->link = &hub->next;
    cf__hubs = hub;
    const bool done = cf__signal_open(&hub->wake) && cf__channel_open(ends);
    hub->channel = ends[0];
    hub->peer = ends[1];
    cf__unlock(&cf__hubs_lock);
    return done;
}

static bool cf__hub_fork(cf__hub *hub, int memory)
{
    char numbers[32];
    cf__signal_mask old;
    if (!cf__hub_open(hub)) return false;
    (void)snprintf(numbers, sizeof numbers, "%d:%d", hub->peer, memory);
    cf__file_flush(stdout); /* else each worker would print it again */
    cf__signals_block(&old);
    cf__hub_forking = hub;
    hub->zygote = fork();
    if (hub->zygote == 0) {
        cf__hub_shut(hub); /* else the host's end of file is never seen */
        if (hub->spawn) cf__zygote_exec(numbers, hub->peer, memory);
        cf__zygote_main(hub->share, hub->kids, hub->peer);
    }
    cf__hub_forking = NULL;
    cf__signals_restore(&old);
    cf__lock(&cf__hubs_lock);
    cf__fd_close(&hub->peer);
    cf__unlock(&cf__hubs_lock);
    return hub->zygote > 0;
}

static cf_status cf__hub_make(cf_executor *executor, const cf_pool_options *options)
{
    cf__hub *const hub = cf__hub_alloc(executor->max_workers);
    int memory = -1;
    if (hub == NULL) return CF_NO_MEMORY;
    hub->executor = executor;
    hub->max_tasks = options->max_tasks_per_child;
    hub->grace = options->kill_grace == 0 ? CF_SECOND : options->kill_grace;
    hub->spawn = options->start_method == CF_START_SPAWN;
    hub->break_on_crash = options->break_on_crash;
    hub->channel = hub->peer = hub->wake.fd = hub->wake.writer = -1;
    hub->callbacks_end = &hub->callbacks;
    executor->hub = hub;
    executor->manager = &hub->runner;
    if (!cf__hub_share(hub, &memory)) return CF_NO_MEMORY;
    cf__share_fill(hub, options);
    cf__hubs_watch();
    const bool forked = cf__hub_fork(hub, memory);
    cf__fd_close(&memory);
    if (!forked) return CF_SYSTEM;
    executor->alive = 1;
    if (cf__thread_start(&hub->manager, cf__manager_main, hub, 0)) return CF_OK;
    executor->alive = 0;
    cf__zygote_wait(hub);
    return CF_SYSTEM;
}

/* Defaults and ranges of a process pool's options. */
static cf_status cf__process_options(cf_pool_options *options)
{
    const size_t most = (PTRDIFF_MAX - CF__SHARE_SIZE) / CF__DESK_SIZE;
    if (options->on_full < CF_FULL_BLOCK || options->on_full > CF_FULL_REJECT ||
        options->max_workers > most || options->queue_limit > PTRDIFF_MAX ||
        (options->start_method != CF_START_FORK && options->start_method != CF_START_SPAWN))
        return CF_INVALID;
    if (options->start_method == CF_START_SPAWN &&
        (cf__load_acquire(&cf__process_main_called) == 0 ||
         !cf__hub_accepts_code(
             (uintptr_t)cf__chunk_main) || /* nothing is known of addresses here */
         !cf__hub_accepts_code((uintptr_t)options->initializer) ||
         !cf__hub_accepts_code((uintptr_t)options->finalizer)))
        return CF_INVALID;
    if (options->max_workers == 0) options->max_workers = cf_cpu_count();
    options->stack_size = 0;
    return CF_OK;
}

CFUTURES_API cf_executor *cf_process_pool_new(const cf_pool_options *options, cf_status *status)
{
    const int saved = errno;
    cf_pool_options own;
    memset(&own, 0, sizeof own);
    if (options != NULL) own = *options;
    cf_status why = cf__process_options(&own);
    cf_executor *executor = NULL;
    if (why == CF_OK) executor = cf__executor_new(&own, &why);
    if (executor != NULL) {
        executor->processes = &cf__process_backend;
        executor->heap.has_started = cf__hub_has_started;
        why = cf__hub_make(executor, &own);
        if (why != CF_OK) {
            executor->joined = true;
            cf__executor_free(executor, NULL);
            executor = NULL;
        }
    }
    errno = saved;
    if (status != NULL) *status = why;
    return executor;
}

CFUTURES_API cf_status cf_executor_kill_workers(cf_executor *executor, int signal)
{
    if (executor == NULL || executor->processes == NULL ||
        (signal != SIGTERM && signal != SIGKILL))
        return CF_INVALID;
    if (cf__is_foreign_heap(&executor->heap)) return CF_FORKED;
    cf__hub *const hub = executor->hub;
    (void)cf_executor_shutdown(executor, 0, CF_CANCEL_PENDING);
    cf__lock(&executor->lock);
    hub->killing = signal;
    for (cf__lane *lane = hub->lanes; lane < hub->lanes_end; lane++) {
        if (lane->phase >= CF__LANE_STARTING && !lane->dead && !lane->killed)
            cf__lane_kill(hub, lane, signal);
    }
    cf__hub_wake(hub);
    cf__unlock(&executor->lock);
    return CF_OK;
}

CFUTURES_API void cf_process_main(int argc, char **argv)
{
    int channel, memory;
    cf__store_release(&cf__process_main_called, 1);
    if (argc != 3 || strcmp(argv[1], cf__zygote_word) != 0) return;
    if (sscanf(argv[2], "%d:%d", &channel, &memory) != 2) _exit(127);
    (void)fcntl(channel, F_SETFD, FD_CLOEXEC);
    void *base;
    const size_t size = cf__memory_accept(memory, &base, PTRDIFF_MAX);
    (void)close(memory);
    if (size < CF__SHARE_SIZE) _exit(127);
    cf__share *const share = base;
    if (share->check != cf__share_check() || size < cf__share_size(share->lanes)) _exit(127);
    cf__kid *const kids = calloc(share->lanes, sizeof *kids);
    if (kids == NULL) _exit(127);
    cf__watch_forks();
    cf__forked_child(); /* no executor of the host is ours */
    cf__zygote_main(share, kids, channel);
}

#endif /* CFUTURES_POSIX */


#endif /* CFUTURES_IMPLEMENTATION */

/* ---------------------------------------------------------------------------------------------
 * history                                                                            >>history
 *
 * 0.1.0  2026-11-21  executors on threads and, with CFUTURES_POSIX, on processes; futures,
 *        promises, callbacks, wait, as_completed, map, observers
 *
 * ---------------------------------------------------------------------------------------------
 * licence                                                                            >>licence
 *
 * MIT License. Copyright (c) 2026 the cfutures authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
 * associated documentation files (the "Software"), to deal in the Software without restriction,
 * including without limitation the rights to use, copy, modify, merge, publish, distribute,
 * sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
 * furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies or
 * substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
 * NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
 * NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
 * DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */


/* cc -std=c11 -O2 -I. examples/hello.c -o hello -pthread */

/*
 * A pool of threads, one submitted call, and a map over five numbers. In Python:
 *
 *     with ThreadPoolExecutor() as pool:
 *         print(pool.submit(square, 7).result())
 *         print(*pool.map(square, range(5)))
 */
#define CFUTURES_IMPLEMENTATION
#include "cfutures.h"

#include <stdio.h>
#include <stdlib.h>

static int square(cf_task *task, void *arg) {
    const int n = *(const int *)arg;
    return cf_task_return(task, &(int){n * n}, sizeof(int));
}

int main(void) {
    static const int numbers[5] = {0, 1, 2, 3, 4};
    int squares[5];
    cf_status submitted, mapped;

    cf_executor *pool = cf_thread_pool_new(NULL, NULL); /* NULL surfaces where results are read */
    cf_future *future = cf_executor_submit(pool, square, CF_VALUE(int, 7));
    const int *result = cf_future_result(future, CF_FOREVER, &submitted);
    if (result != NULL) {
        printf("%d\n", *result);
    }
    cf_future_release(future);

    mapped = cf_executor_map_array(pool, square, numbers, sizeof *numbers, squares, sizeof *squares,
                                   5, NULL, NULL);
    if (mapped == CF_OK) {
        printf("%d %d %d %d %d\n", squares[0], squares[1], squares[2], squares[3], squares[4]);
    }
    cf_executor_close(pool);

    if (submitted != CF_OK || mapped != CF_OK) {
        fprintf(stderr, "hello: %s\n", cf_strerror(submitted != CF_OK ? submitted : mapped));
        return EXIT_FAILURE;
    }
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Expected output:
49
0 1 4 9 16
*/

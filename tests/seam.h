/* What tests/impl.c offers to the tests beside the library itself. Plain C11, no feature macro:
 * impl.c includes it, and the implementation must be seen to need none. */
#ifndef CF_TEST_SEAM_H
#define CF_TEST_SEAM_H

#include <stdbool.h>
#include <stddef.h>

struct cf_executor;
struct cf_pool_options;
struct cf_as_completed_iter;

/* "c11", "posix", "c11 generic", ...: what impl.c was compiled for. */
const char *test_backend(void);

/* The allocator of an implementation compiled with -DCFUTURES_MALLOC=test_malloc
 * -DCFUTURES_FREE=test_free; test_alloc_hooked() says whether this one was. */
void *test_malloc(size_t size);
void test_free(void *ptr);
bool test_alloc_hooked(void);
size_t test_alloc_live(void);  /* blocks not freed yet                                 */
size_t test_alloc_total(void); /* calls of test_malloc so far, the failed ones included */

/* The nth call from now (1 is the next) returns NULL; with `onward` all later ones too, until
 * test_alloc_recover. Returns nothing to undo when the implementation is not hooked. */
void test_alloc_fail(size_t nth, bool onward);
void test_alloc_recover(void);
size_t test_alloc_failures(void); /* calls that were made to fail since the process started */

/* From now on any thread that passes CFUTURES_TEST_POINT(id) calls the hook; NULL: no more. */
void test_point_hook(void (*hook)(int id));

extern const int test_point_lose, test_point_load; /* CF__POINT_LOSE, CF__POINT_LOAD */

/* From now on threads that pass such a point may yield, spin or sleep there, as the seed says; 0:
 * never again. */
void test_perturb(unsigned seed);

/* cf_process_pool_new and cf_as_completed_fd where impl.c was compiled with them; NULL and -1 where
 * not, so that one object serves all backends. */
struct cf_executor *test_process_pool(const struct cf_pool_options *options);
int test_iter_fd(struct cf_as_completed_iter *iter);

/* For a thread pool that has not been used: its counters, and those of all workers that start from
 * now on, are about to overflow. */
void test_wrap(struct cf_executor *executor);

#endif

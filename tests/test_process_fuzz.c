/* The fuzz target as a test: what its corpus and a few seconds of blind mutations show, and that it
 * finds a check that is missing. `make fuzz` runs it for longer, led by coverage where clang is. */
#ifdef __linux__

#define FUZZ_NO_MAIN
#include "fuzz_desk.c"

#include "test.h"

static bool is_lane(const char *name) {
    const char *const lane = getenv("CF_TEST_LANE");
    return lane != NULL && strcmp(lane, name) == 0;
}

TEST(the_corpus_does_no_harm) {
    fz_watch();
    fz_load("tests/corpus");
    CHECK(fz_corpus_size > 0);
    fz_run_corpus();
}

/* The input that does harm is printed. */
TEST(mutated_inputs_do_no_harm) {
    fz_watch();
    fz_load("tests/corpus");
    CHECK(fz_run_mutations((uint64_t)now(), 2, ULONG_MAX) > 0);
}

/* Whatever it is that the plant makes happen is its own business. */
static void run_planted(void *plant) {
    CHECK(setenv("FUZZ_PLANT", plant, 1) == 0);
    CHECK(freopen("/dev/null", "w", stderr) != NULL);
    fz_load("tests/corpus");
    fz_run_corpus();
    (void)fz_run_mutations(1, 5, ULONG_MAX);
}

static void find_plant(const char *plant) {
    char name[2] = {plant[0], '\0'};
    if (is_lane("children")) {
        SKIP("valgrind would report what is planted");
    }
    const int status = in_child(run_planted, name);
    CHECK(status != 0 && status != -1);
}

TEST(memory_that_nobody_asks_to_be_sealed_is_noticed) {
    find_plant("1");
}

TEST(a_size_that_nobody_compares_is_noticed) {
    find_plant("2");
}

TEST(a_descriptor_that_nobody_closes_is_noticed) {
    find_plant("3");
}

TEST_MAIN(RUN_WITHIN(60, the_corpus_does_no_harm) RUN_WITHIN(30, mutated_inputs_do_no_harm)
              RUN_WITHIN(30, memory_that_nobody_asks_to_be_sealed_is_noticed)
                  RUN_WITHIN(30, a_size_that_nobody_compares_is_noticed)
                      RUN_WITHIN(30, a_descriptor_that_nobody_closes_is_noticed))

#else

#include "test.h"

TEST(it_plays_with_memory_of_linux) {
    SKIP("Linux only");
}

TEST_MAIN(RUN(it_plays_with_memory_of_linux))

#endif

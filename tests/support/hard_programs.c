/* Programs that are hard to end, for the tests of killing.  The first argument names one.
 *
 * Each builds its tree and then waits for ever, if it is let.  Whoever tests finds the processes
 * by the path of this executable, which none of them can shed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static char self[4096];

static void wait_for_ever(void) {
    for (;;) pause();
}

static void ignore_sigterm(void) {
    signal(SIGTERM, SIG_IGN);
}

static int in_child(void) {
    pid_t pid = fork();
    if (pid < 0) { perror("fork"); exit(99); }
    return pid == 0;
}

/* Each process that has found its place gives up its end of this pipe, or loses it by exec: when
 * nobody holds it any more, the leader says that the tree is ready. */
static int ready[2];

static void settled(void) {
    close(ready[1]);
}

static void settle_and_wait(void) {
    settled();
    wait_for_ever();
}

/* Begins anew with nothing to be read of where it came from; that also says it is settled. */
static void wait_without_environment(void) {
    char *argv[] = {"-", "wait", NULL};
    char *none[] = {NULL};
    execve(self, argv, none);
    _exit(99);
}

static void say_ready(void) {
    if (write(1, "ready\n", 6) != 6) exit(99);
}

static void lead(void) {
    char byte;
    settled();
    while (read(ready[0], &byte, 1) != 0) continue;
    say_ready();
    wait_for_ever();
}

/* -- trees that obey SIGTERM ------------------------------------------------------------ */

static void sleepers(int count) {
    for (int i = 0; i < count; i++)
        if (in_child()) settle_and_wait();
    lead();
}

static void new_session(void) {
    if (in_child()) {
        setsid();
        in_child();
        settle_and_wait();
    }
    lead();
}

static void double_fork(void) {
    if (in_child()) {
        setsid();
        if (in_child()) settle_and_wait();
        _exit(0);
    }
    lead();
}

static void bare_double_fork(void) {
    if (in_child()) {
        setsid();
        if (in_child()) {
            if (chdir("/") != 0) _exit(99);
            while (getppid() == getsid(0)) usleep(100);
            close_range(0, ready[1] - 1, 0);
            wait_without_environment();
        }
        _exit(0);
    }
    lead();
}

static void stopped(void) {
    if (in_child()) {
        setsid();
        settled();
        raise(SIGSTOP);
        wait_for_ever();
    }
    if (in_child()) {
        settled();
        raise(SIGSTOP);
        wait_for_ever();
    }
    lead();
}

static void renamed(char **argv) {
    int child = in_child();
    if (child) setsid();
    prctl(PR_SET_NAME, "kworker/0:1", 0, 0, 0);
    memset(argv[0], 0, strlen(argv[0]));
    memset(argv[1], 0, strlen(argv[1]));
    if (child) settle_and_wait();
    lead();
}

/* Sheds the number, the session and the environment, and keeps the ancestry. */
static void shed(void) {
    if (in_child()) {
        struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
        setrlimit(RLIMIT_RSS, &none);
        setsid();
        if (in_child()) setsid();
        wait_without_environment();
    }
    lead();
}

/* -- trees that do not ------------------------------------------------------------------ */

static void ignores_sigterm(void) {
    ignore_sigterm();
    if (in_child()) {
        setsid();
        in_child();
        settle_and_wait();
    }
    lead();
}

static void fork_again(int number) {
    (void)number;
    if (in_child()) setsid();
}

static void forks_on_sigterm(void) {
    signal(SIGTERM, fork_again);
    if (in_child()) {
        setsid();
        settle_and_wait();
    }
    lead();
}

static void fork_loop(void) {
    ignore_sigterm();
    for (int i = 0; i < 200; i++) {
        if (in_child()) {
            if (i % 2) setsid();
            settle_and_wait();
        }
        if (i == 40) say_ready();
        usleep(2000);
    }
    wait_for_ever();
}

/* A process that is never in one place: each forks the next one in a new session and exits. */
static void comet(void) {
    ignore_sigterm();
    if (in_child()) {
        for (int hop = 0;; hop++) {
            if (!in_child()) _exit(0);
            setsid();
            if (hop == 3) settled();
            usleep(300);
        }
    }
    lead();
}

static void *thread_leads(void *nothing) {
    lead();
    return nothing;
}

/* Its first thread is gone, so that it reads as a zombie while it lives. */
static void headless(void) {
    pthread_t thread;
    ignore_sigterm();
    if (in_child()) {
        setsid();
        settled();
        if (pthread_create(&thread, NULL, (void *(*)(void *))wait_for_ever, NULL) != 0) exit(99);
        pthread_exit(NULL);
    }
    if (pthread_create(&thread, NULL, thread_leads, NULL) != 0) exit(99);
    pthread_exit(NULL);
}

/* -- leaders that leave something behind ------------------------------------------------ */

static void holds_stdout(void) {
    if (write(1, "held\n", 5) != 5) exit(99);
    if (in_child()) { setsid(); wait_for_ever(); }
    exit(0);
}

static void stubborn_leftover(void) {
    ignore_sigterm();
    if (in_child()) { setsid(); wait_for_ever(); }
    exit(7);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "wait";
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length > 0) self[length] = '\0';
    if (pipe2(ready, O_CLOEXEC) != 0) return 99;
#define MODE(name, call) if (!strcmp(mode, name)) call
    MODE("wait", wait_for_ever());
    MODE("sleepers", sleepers(argc > 2 ? atoi(argv[2]) : 1));
    MODE("new-session", new_session());
    MODE("double-fork", double_fork());
    MODE("bare-double-fork", bare_double_fork());
    MODE("stopped", stopped());
    MODE("renamed", renamed(argv));
    MODE("shed", shed());
    MODE("ignores-sigterm", ignores_sigterm());
    MODE("forks-on-sigterm", forks_on_sigterm());
    MODE("fork-loop", fork_loop());
    MODE("comet", comet());
    MODE("headless", headless());
    MODE("holds-stdout", holds_stdout());
    MODE("stubborn-leftover", stubborn_leftover());
    fprintf(stderr, "unknown mode %s\n", mode);
    return 98;
}

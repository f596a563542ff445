/* Records what a program writes, syncs and renames below one folder, in order.

   Preloaded (LD_PRELOAD) with RECORD_LOG naming the log and RECORD_BELOW the folder.  One entry:
   kind (1 byte), lengths of two paths (u32 each), offset (u64), length of data (u64), then paths and
   data.  Writes through a memory map are not seen: a power cut may drop them anyway. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *below;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("RECORD_LOG");
    below = getenv("RECORD_BELOW");
    if (path != NULL && below != NULL)
        log_fd = (int)REAL(open)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int watched(const char *path) {
    return log_fd >= 0 && path != NULL && strncmp(path, below, strlen(below)) == 0;
}

static int path_of(int fd, char *path, size_t size) {
    char link[64];
    int error = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    errno = error;
    path[length > 0 ? length : 0] = 0;
    return length > 0 && watched(path);
}

static void record(char kind, const char *first, const char *second, uint64_t offset,
                   const void *data, uint64_t length) {
    uint32_t lengths[2] = {(uint32_t)strlen(first), (uint32_t)strlen(second)};
    uint64_t numbers[2] = {offset, length};
    struct iovec parts[6] = {{&kind, 1},
                             {lengths, sizeof lengths},
                             {numbers, sizeof numbers},
                             {(void *)first, lengths[0]},
                             {(void *)second, lengths[1]},
                             {(void *)data, length}};
    int error = errno;
    REAL(writev)(log_fd, parts, data == NULL ? 5 : 6);
    errno = error;
}

static void opened(const char *path, int flags, int is_new, int fd) {
    char full[4096];
    (void)path;
    if (fd >= 0 && path_of(fd, full, sizeof full)) {
        if (is_new && (flags & O_CREAT)) record('c', full, "", 0, NULL, 0);
        if (flags & O_TRUNC) record('t', full, "", 0, NULL, 0);
    }
}

#define OPEN(name)                                                                       \
    int name(const char *path, int flags, ...) {                                         \
        mode_t mode = 0;                                                                 \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                           \
            va_list list;                                                                \
            va_start(list, flags);                                                       \
            mode = va_arg(list, mode_t);                                                 \
            va_end(list);                                                                \
        }                                                                                \
        pthread_mutex_lock(&lock);                                                       \
        int is_new = access(path, F_OK) != 0;                                            \
        int fd = REAL(name)(path, flags, mode);                                          \
        opened(path, flags, is_new, fd);                                                 \
        pthread_mutex_unlock(&lock);                                                     \
        return fd;                                                                       \
    }
OPEN(open)
OPEN(open64)

static void written(int fd, uint64_t offset, const void *data, ssize_t done) {
    char path[4096];
    if (done > 0 && path_of(fd, path, sizeof path)) {
        int flags = fcntl(fd, F_GETFL);
        if (flags & O_APPEND) {
            struct stat status;
            fstat(fd, &status);
            offset = (uint64_t)status.st_size - (uint64_t)done;
        }
        record(flags & O_DSYNC ? 'd' : 'w', path, "", offset, data, (uint64_t)done);
    }
}

ssize_t write(int fd, const void *data, size_t size) {
    pthread_mutex_lock(&lock);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = REAL(write)(fd, data, size);
    written(fd, (uint64_t)at, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}

#define PWRITE(name, offset_type)                                                        \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset) {            \
        pthread_mutex_lock(&lock);                                                       \
        ssize_t done = REAL(name)(fd, data, size, offset);                               \
        written(fd, (uint64_t)offset, data, done);                                       \
        pthread_mutex_unlock(&lock);                                                     \
        return done;                                                                     \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

static void written_parts(int fd, const struct iovec *parts, int count, uint64_t offset,
                          ssize_t done) {
    for (int i = 0; i < count && done > 0; i++) {
        ssize_t part = (ssize_t)parts[i].iov_len < done ? (ssize_t)parts[i].iov_len : done;
        written(fd, offset, parts[i].iov_base, part);
        offset += (uint64_t)part;
        done -= part;
    }
}

#define PWRITEV(name, offset_type)                                                       \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_type offset) {     \
        pthread_mutex_lock(&lock);                                                       \
        ssize_t done = REAL(name)(fd, parts, count, offset);                             \
        written_parts(fd, parts, count, (uint64_t)offset, done);                         \
        pthread_mutex_unlock(&lock);                                                     \
        return done;                                                                     \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count) {
    pthread_mutex_lock(&lock);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t done = REAL(writev)(fd, parts, count);
    written_parts(fd, parts, count, (uint64_t)at, done);
    pthread_mutex_unlock(&lock);
    return done;
}

#define TRUNCATE(name, offset_type)                                                      \
    int name(int fd, offset_type size) {                                                 \
        char path[4096];                                                                 \
        pthread_mutex_lock(&lock);                                                       \
        int result = REAL(name)(fd, size);                                               \
        if (result == 0 && path_of(fd, path, sizeof path))                               \
            record('t', path, "", (uint64_t)size, NULL, 0);                              \
        pthread_mutex_unlock(&lock);                                                     \
        return result;                                                                   \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name, kind)                                                                 \
    int name(int fd) {                                                                   \
        char path[4096];                                                                 \
        pthread_mutex_lock(&lock);                                                       \
        int result = REAL(name)(fd);                                                     \
        if (result == 0 && path_of(fd, path, sizeof path)) record(kind, path, "", 0, NULL, 0); \
        pthread_mutex_unlock(&lock);                                                     \
        return result;                                                                   \
    }
SYNC(fsync, 's')
SYNC(fdatasync, 's')
SYNC(syncfs, 'a')

int rename(const char *from, const char *to) {
    pthread_mutex_lock(&lock);
    int result = REAL(rename)(from, to);
    if (result == 0 && watched(from)) record('r', from, to, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    int result = REAL(unlink)(path);
    if (result == 0 && watched(path)) record('u', path, "", 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    pthread_mutex_lock(&lock);
    int result = REAL(mkdir)(path, mode);
    if (result == 0 && watched(path)) record('m', path, "", 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

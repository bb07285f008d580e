/* Moves the archive's bytes into a directory, or compares them with what lies there.
 *
 * The unpacked stream is cut into blocks that were compressed one by one, so every processor takes the next block
 * and writes the files, or parts of files, that lie in it. */

#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { MOST_THREADS = 8, COMPARE_BYTES = 1 << 16 };

struct job {
    const struct archive *archive;
    int directory;
    bool compares;
    atomic_uint next;
    atomic_bool failed;
    atomic_bool damaged;
    pthread_mutex_t mutex; /* of `reason` */
    struct reason *reason;
};

static bool stop(struct job *job, bool damaged, const char *what, const char *path)
{
    int error = errno;
    pthread_mutex_lock(&job->mutex);
    if (!atomic_exchange(&job->failed, true)) {
        atomic_store(&job->damaged, damaged);
        if (damaged)
            fail(job->reason, "the file is damaged: %s", what);
        else
            fail(job->reason, "%s %s: %s", what, path, strerror(error));
    }
    pthread_mutex_unlock(&job->mutex);
    return false;
}

static bool read_all(int file, uint8_t *bytes, size_t count, uint64_t offset)
{
    while (count) {
        ssize_t got = pread(file, bytes, count, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        bytes += got, offset += (uint64_t)got, count -= (size_t)got;
    }
    return true;
}

static bool write_all(int file, const uint8_t *bytes, size_t count, uint64_t offset)
{
    while (count) {
        ssize_t put = pwrite(file, bytes, count, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return false;
        bytes += put, offset += (uint64_t)put, count -= (size_t)put;
    }
    return true;
}

static bool equals(int file, const uint8_t *bytes, size_t count, uint64_t offset)
{
    uint8_t found[COMPARE_BYTES];
    for (size_t at = 0; at < count; at += COMPARE_BYTES) {
        size_t part = count - at < COMPARE_BYTES ? count - at : COMPARE_BYTES;
        if (!read_all(file, found, part, offset + at) || memcmp(found, bytes + at, part))
            return false;
    }
    return true;
}

static bool move_slice(struct job *job, const struct entry *entry, const uint8_t *bytes, size_t count, uint64_t offset)
{
    int flags = O_CLOEXEC | O_NOFOLLOW | (job->compares ? O_RDONLY : O_WRONLY | O_CREAT);
    int file = openat(job->directory, entry->path, flags, entry->kind == KIND_PROGRAM ? 0700 : 0600);
    if (file < 0)
        return stop(job, false, "cannot open", entry->path);
    bool done = job->compares ? equals(file, bytes, count, offset) : write_all(file, bytes, count, offset);
    if (!done)
        stop(job, false, job->compares ? "unexpected content in" : "cannot write", entry->path);
    if (close(file) && done)
        return stop(job, false, "cannot write", entry->path);
    return done;
}

/* The first entry with bytes at or behind `at`. */
static const struct entry *entry_at(const struct archive *archive, uint64_t at)
{
    uint32_t low = 0, high = archive->entry_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (archive->entries[middle].start + archive->entries[middle].size > at)
            high = middle;
        else
            low = middle + 1;
    }
    return archive->entries + low;
}

static bool move_block(struct job *job, uint32_t index, uint8_t *packed, uint8_t *raw)
{
    const struct archive *archive = job->archive;
    const struct block *block = &archive->blocks[index];
    uint64_t start = (uint64_t)index * archive->block_size;
    uint64_t end = start + archive->block_size < archive->unpacked ? start + archive->block_size : archive->unpacked;
    uint8_t digest[DIGEST_BYTES];
    if (!read_all(archive->file, packed, block->packed, block->offset))
        return stop(job, true, "it cannot be read to its end", "");
    sha256(packed, block->packed, digest);
    if (memcmp(digest, block->digest, DIGEST_BYTES))
        return stop(job, true, "a part of it is not what was built", "");
    uLongf size = end - start;
    if (uncompress(raw, &size, packed, block->packed) != Z_OK || size != end - start)
        return stop(job, true, "a part of it cannot be decompressed", "");
    const struct entry *last = archive->entries + archive->entry_count;
    for (const struct entry *entry = entry_at(archive, start); entry < last && entry->start < end; entry++) {
        uint64_t from = entry->start > start ? entry->start : start;
        uint64_t to = entry->start + entry->size < end ? entry->start + entry->size : end;
        if (to > from && !move_slice(job, entry, raw + (from - start), to - from, from - entry->start))
            return false;
    }
    return true;
}

static void *work(void *argument)
{
    struct job *job = argument;
    uint32_t most = 0;
    for (uint32_t i = 0; i < job->archive->block_count; i++)
        if (job->archive->blocks[i].packed > most)
            most = job->archive->blocks[i].packed;
    uint8_t *packed = malloc(most + 1), *raw = malloc(job->archive->block_size);
    if (!packed || !raw) {
        errno = ENOMEM;
        stop(job, false, "cannot unpack", "");
    }
    while (!atomic_load(&job->failed)) {
        uint32_t index = atomic_fetch_add(&job->next, 1);
        if (index >= job->archive->block_count || !move_block(job, index, packed, raw))
            break;
    }
    free(packed);
    free(raw);
    return NULL;
}

static bool run(struct job *job)
{
    cpu_set_t processors;
    int count = sched_getaffinity(0, sizeof processors, &processors) ? 1 : CPU_COUNT(&processors);
    pthread_t threads[MOST_THREADS];
    int started = 0;
    while (started < count - 1 && started < MOST_THREADS &&
           !pthread_create(&threads[started], NULL, work, job))
        started++;
    work(job);
    while (started)
        pthread_join(threads[--started], NULL);
    return !atomic_load(&job->failed);
}

static bool make_parents(int directory, const char *path)
{
    char parent[PATH_MAX];
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t length = (size_t)(slash - path);
        if (length >= sizeof parent) {
            errno = ENAMETOOLONG;
            return false;
        }
        memcpy(parent, path, length);
        parent[length] = '\0';
        if (mkdirat(directory, parent, 0700) && errno != EEXIST)
            return false;
    }
    return true;
}

/* What holds no bytes: directories, links, empty files. */
static bool make_frame(const struct archive *archive, int directory, struct reason *reason)
{
    for (uint32_t i = 0; i < archive->entry_count; i++) {
        const struct entry *entry = &archive->entries[i];
        bool made = make_parents(directory, entry->path);
        if (made && entry->kind == KIND_LINK)
            made = !symlinkat(entry->target, directory, entry->path);
        else if (made && !entry->size) {
            int file = openat(directory, entry->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            made = file >= 0 && !close(file);
        }
        if (!made)
            return fail(reason, "cannot make %s: %s", entry->path, strerror(errno));
    }
    return true;
}

bool unpack(const struct archive *archive, int directory, bool *hopeless, struct reason *reason)
{
    struct job job = {.archive = archive, .directory = directory, .reason = reason};
    pthread_mutex_init(&job.mutex, NULL);
    bool done = make_frame(archive, directory, reason) && run(&job);
    *hopeless = atomic_load(&job.damaged);
    return done;
}

bool is_unchanged(const struct archive *archive, int directory)
{
    struct reason ignored = {0};
    struct job job = {.archive = archive, .directory = directory, .compares = true, .reason = &ignored};
    pthread_mutex_init(&job.mutex, NULL);
    return run(&job);
}

bool is_whole(const struct archive *archive, int directory)
{
    for (uint32_t i = 0; i < archive->entry_count; i++) {
        const struct entry *entry = &archive->entries[i];
        struct stat status;
        if (fstatat(directory, entry->path, &status, AT_SYMLINK_NOFOLLOW))
            return false;
        if (entry->kind == KIND_LINK ? !S_ISLNK(status.st_mode)
                                     : !S_ISREG(status.st_mode) || (uint64_t)status.st_size != entry->size)
            return false;
    }
    return true;
}

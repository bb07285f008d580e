/* Where the program may be unpacked, and how it gets there.
 *
 *     <place>/lock                    held while someone unpacks or removes
 *     <place>/program-<digest>/       one build; complete, because it is renamed into place
 *     <place>/program-<digest>/.lock  shared by every process that runs this build, so no other build removes it
 *     <place>/program-<digest>/.boot  the boot in which its content was last checked
 *
 * Nothing is synced to disk: the program can be made again at any time. Instead, the first start after a boot
 * compares every byte, which also finds what a crash or a bad disk left. */

#define _GNU_SOURCE
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINKER "/lib64/ld-linux-x86-64.so.2"
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

enum { SPARE_BYTES = 16 << 20, BOOT_BYTES = 64, NAME_BYTES = 64, OLDEST_TELLING_MINOR = 33 };

static const char FRESH[] = "fresh-", PROGRAM[] = "program-", OLD[] = "old-";

/* Places */

static bool add(struct place *place, const char *parent, const char *child, const char *owner)
{
    char here[PATH_MAX] = "";
    if (!parent || !*parent)
        return false;
    if (*parent != '/' && !getcwd(here, sizeof here))
        return false;
    int length = snprintf(place->path, sizeof place->path, "%s%s%s/%s%s/program", here, *here ? "/" : "", parent,
                          child, owner);
    return length > 0 && (size_t)length < sizeof place->path;
}

int list_places(struct place places[MOST_PLACES])
{
    char owner[32], home_dir[PATH_MAX];
    snprintf(owner, sizeof owner, "-%u", (unsigned)geteuid());
    const char *home = getenv("HEARTH_HOME"), *user = getenv("HOME");
    int count = 0;
    if (home && home[0] == '~' && (home[1] == '/' || !home[1]) && user) {
        snprintf(home_dir, sizeof home_dir, "%s%s", user, home + 1);
        home = home_dir;
    }
    if (home && *home)
        count += add(&places[count], home, "cache", "");
    else if (!(count += add(&places[count], getenv("XDG_CACHE_HOME"), "hearth", "")) && user && *user) {
        char cache[PATH_MAX];
        snprintf(cache, sizeof cache, "%s/.cache", user);
        count += add(&places[count], cache, "hearth", "");
    }
    count += add(&places[count], getenv("TMPDIR"), "hearth", owner);
    count += add(&places[count], "/var/tmp", "hearth", owner);
    count += add(&places[count], "/tmp", "hearth", owner);
    count += add(&places[count], getenv("XDG_RUNTIME_DIR"), "hearth", "");
    count += add(&places[count], "/dev/shm", "hearth", owner);
    return count;
}

static bool make_path(const char *path)
{
    char part[PATH_MAX];
    strcpy(part, path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0700) && errno != EEXIST && access(part, X_OK))
            return false;
        *slash = '/';
    }
    return !mkdir(part, 0700) || errno == EEXIST;
}

static int open_place(const char *path, struct reason *reason)
{
    struct stat status, parent;
    if (!make_path(path)) {
        fail(reason, "cannot be made: %s", strerror(errno));
        return -1;
    }
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0 || fstat(directory, &status) || fstatat(directory, "..", &parent, 0)) {
        fail(reason, "cannot be opened: %s", strerror(errno));
        if (directory >= 0)
            close(directory);
        return -1;
    }
    /* Whoever can change the directory, or put another in its place, decides what runs. */
    bool is_ours = status.st_uid == geteuid() && !(status.st_mode & 022);
    bool stays_ours = (parent.st_uid == geteuid() || !parent.st_uid) && !(parent.st_mode & 02);
    if (!is_ours || !stays_ours) {
        close(directory);
        fail(reason, "can be changed by others");
        return -1;
    }
    return directory;
}

static bool has_room(int place, uint64_t needed, struct reason *reason)
{
    struct statvfs disk;
    if (fstatvfs(place, &disk))
        return fail(reason, "cannot be examined: %s", strerror(errno));
    if (disk.f_flag & ST_NOEXEC)
        return fail(reason, "is mounted noexec: no program may run there");
    uint64_t available = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (available < needed)
        return fail(reason, "has %llu MB free, %llu MB are needed", (unsigned long long)available / 1000000,
                    (unsigned long long)needed / 1000000 + 1);
    return true;
}

/* The machine's own libc, asked before anything is unpacked for it. */
static bool has_libc(unsigned minor, struct reason *reason)
{
    char answer[256] = "";
    int ends[2];
    if (access(LINKER, X_OK))
        return fail(reason, "this machine has no glibc (%s is missing); 2.%u or newer is needed", LINKER, minor);
    if (pipe(ends))
        return true;
    pid_t child = fork();
    if (!child) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        execl(LINKER, LINKER, "--version", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    for (size_t at = 0; at < sizeof answer - 1;) {
        ssize_t got = read(ends[0], answer + at, sizeof answer - 1 - at);
        if (got <= 0 && !(got < 0 && errno == EINTR))
            break;
        at += got > 0 ? (size_t)got : 0;
    }
    close(ends[0]);
    if (child < 0 || waitpid(child, NULL, 0) < 0)
        return true;
    const char *version = strstr(answer, "release version 2.");
    unsigned found = version ? (unsigned)strtoul(version + strlen("release version 2."), NULL, 10) : 0;
    if (!version) /* older linkers do not know the question */
        return fail(reason, "this machine's glibc is older than 2.%d; 2.%u or newer is needed", OLDEST_TELLING_MINOR,
                    minor);
    if (found < minor)
        return fail(reason, "this machine has glibc 2.%u; 2.%u or newer is needed", found, minor);
    return true;
}

/* Directories */

static void remove_tree(int parent, const char *name)
{
    int directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = directory < 0 ? NULL : fdopendir(directory);
    for (struct dirent *item; list && (item = readdir(list));) {
        if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, ".."))
            continue;
        if (unlinkat(directory, item->d_name, 0) && (errno == EISDIR || errno == EPERM))
            remove_tree(directory, item->d_name);
    }
    if (list)
        closedir(list);
    unlinkat(parent, name, AT_REMOVEDIR);
}

static void discard(int place, const char *name)
{
    char old[NAME_BYTES];
    snprintf(old, sizeof old, "%s%ld", OLD, (long)getpid());
    if (!renameat(place, name, place, old))
        remove_tree(place, old);
}

/* Removes half-made directories and builds that nobody runs; the place's lock is held. */
static void tidy(int place, const char *current)
{
    int copy = openat(place, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    for (struct dirent *item; list && (item = readdir(list));) {
        if (!strncmp(item->d_name, FRESH, strlen(FRESH)) || !strncmp(item->d_name, OLD, strlen(OLD)))
            remove_tree(place, item->d_name);
        if (strncmp(item->d_name, PROGRAM, strlen(PROGRAM)) || !strcmp(item->d_name, current))
            continue;
        char lock_path[NAME_MAX + 8];
        snprintf(lock_path, sizeof lock_path, "%s/.lock", item->d_name);
        int lock = openat(place, lock_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (lock < 0 || !flock(lock, LOCK_EX | LOCK_NB))
            discard(place, item->d_name);
        if (lock >= 0)
            close(lock);
    }
    if (list)
        closedir(list);
}

/* Boots */

static void read_boot(char boot[BOOT_BYTES])
{
    memset(boot, 0, BOOT_BYTES);
    int file = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, boot, BOOT_BYTES - 1) < 0)
        memset(boot, 0, BOOT_BYTES);
    if (file >= 0)
        close(file);
}

static bool was_checked(int directory, const char *boot)
{
    char found[BOOT_BYTES] = "";
    int file = openat(directory, ".boot", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0)
        return false;
    bool got = read(file, found, sizeof found - 1) >= 0;
    close(file);
    return got && !strcmp(found, boot);
}

static bool note_boot(int directory, const char *boot)
{
    int file = openat(directory, ".boot", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    return file >= 0 && write(file, boot, strlen(boot)) == (ssize_t)strlen(boot) && !close(file);
}

/* Programs */

/* Takes the shared lock and checks the program; false when there is none, or none that may be used. */
static bool take_program(int place, const char *name, const struct archive *archive)
{
    char boot[BOOT_BYTES];
    int directory = openat(place, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int lock = directory < 0 ? -1 : openat(directory, ".lock", O_RDONLY | O_NOFOLLOW); /* survives exec */
    bool fits = lock >= 0 && !flock(lock, LOCK_SH | LOCK_NB) && is_whole(archive, directory);
    read_boot(boot);
    if (fits && !was_checked(directory, boot)) {
        fits = is_unchanged(archive, directory);
        if (fits)
            note_boot(directory, boot);
    }
    if (!fits && lock >= 0)
        close(lock);
    if (directory >= 0)
        close(directory);
    return fits;
}

static bool make_program(int place, const char *name, const struct archive *archive, bool *hopeless,
                         struct reason *reason)
{
    char fresh[NAME_BYTES], boot[BOOT_BYTES];
    snprintf(fresh, sizeof fresh, "%s%ld", FRESH, (long)getpid());
    tidy(place, name);
    if (!has_room(place, archive->unpacked + SPARE_BYTES, reason))
        return false;
    if (mkdirat(place, fresh, 0700))
        return fail(reason, "cannot be written: %s", strerror(errno));
    int directory = openat(place, fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    read_boot(boot);
    bool made = directory >= 0 && unpack(archive, directory, hopeless, reason);
    int lock = made ? openat(directory, ".lock", O_RDONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (made && (lock < 0 || !note_boot(directory, boot)))
        made = fail(reason, "cannot be written: %s", strerror(errno));
    if (lock >= 0)
        close(lock);
    if (directory >= 0)
        close(directory);
    if (made) {
        discard(place, name); /* there only when it was damaged */
        if (renameat(place, fresh, place, name))
            made = fail(reason, "cannot be written: %s", strerror(errno));
    }
    if (!made)
        remove_tree(place, fresh);
    return made;
}

bool prepare(const struct place *place, const struct archive *archive, char program[PATH_MAX], bool *unpacked,
             bool *hopeless, struct reason *reason)
{
    char name[NAME_BYTES];
    int at = snprintf(name, sizeof name, "%s", PROGRAM);
    for (int i = 0; i < DIGEST_BYTES / 2; i++)
        at += snprintf(name + at, sizeof name - (size_t)at, "%02x", archive->digest[i]);
    int length = snprintf(program, PATH_MAX, "%s/%s", place->path, name);
    if (length < 0 || length >= PATH_MAX)
        return fail(reason, "has too long a name");
    int directory = open_place(place->path, reason);
    if (directory < 0)
        return false;
    bool ready = take_program(directory, name, archive);
    if (!ready) {
        int lock = openat(directory, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (lock < 0 || flock(lock, LOCK_EX))
            fail(reason, "cannot be locked: %s", strerror(errno));
        else if (take_program(directory, name, archive))
            ready = true;
        else if (!has_libc(archive->glibc_minor, reason))
            *hopeless = true;
        else {
            *unpacked = make_program(directory, name, archive, hopeless, reason);
            ready = *unpacked && take_program(directory, name, archive);
            if (*unpacked && !ready)
                fail(reason, "does not keep what is written to it");
        }
        if (lock >= 0)
            close(lock);
    }
    close(directory);
    return ready;
}

/* The launcher's life: find the program in this very file, have it unpacked, become it.
 *
 * The footer at the end of the file is the one in models/embedded.py. */

#define _GNU_SOURCE
#include "launcher.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FOOTER_BYTES = 128, PROGRAM_AT = 64, FAILED = 1 };

static const char MAGIC[16] = "HEARTH BUNDLE 1\n";

/* PyInstaller's own variables: from a parent that is another program of its kind, they would mislead ours. */
static const char *const MISLEADING[] = {"_PYI_APPLICATION_HOME_DIR", "_PYI_ARCHIVE_FILE",
                                         "_PYI_PARENT_PROCESS_LEVEL", "_PYI_SPLASH_IPC", "_MEIPASS2"};

bool fail(struct reason *reason, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason->text, sizeof reason->text, format, arguments);
    va_end(arguments);
    return false;
}

static bool open_self(const char *name, struct archive *archive, struct reason *reason)
{
    uint8_t footer[FOOTER_BYTES];
    uint64_t place[2];
    struct stat status;
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status))
        return fail(reason, "the file cannot be read: %s", strerror(errno));
    if (status.st_size < FOOTER_BYTES ||
        pread(file, footer, FOOTER_BYTES, status.st_size - FOOTER_BYTES) != FOOTER_BYTES ||
        memcmp(footer, MAGIC, sizeof MAGIC))
        return fail(reason, "the file is damaged: its end is missing");
    memcpy(place, footer + PROGRAM_AT, sizeof place);
    uint64_t offset = le64toh(place[0]), size = le64toh(place[1]), room = (uint64_t)status.st_size - FOOTER_BYTES;
    if (offset > room || size > room - offset)
        return fail(reason, "the file is damaged: its end points outside of it");
    return archive_open(archive, file, offset, size, footer + PROGRAM_AT + sizeof place, reason);
}

static void add_library_path(const char *program)
{
    const char *before = getenv("LD_LIBRARY_PATH");
    size_t size = strlen(program) + sizeof "/_internal:" + (before ? strlen(before) : 0);
    char *path = malloc(size);
    if (!path)
        return;
    snprintf(path, size, "%s/_internal%s%s", program, before && *before ? ":" : "", before ? before : "");
    setenv("LD_LIBRARY_PATH", path, 1);
    free(path);
}

static int refuse(const char *self, const char *text)
{
    fprintf(stderr, "hearth: %s: %s\n", self, text);
    return FAILED;
}

int main(int count, char **words)
{
    char self[PATH_MAX] = "", program[PATH_MAX + 16];
    struct archive archive = {0};
    struct place places[MOST_PLACES];
    struct reason reason = {0}, reasons[MOST_PLACES] = {0};
    (void)count;
    if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0 && !realpath(words[0], self))
        return refuse(words[0], "cannot find its own file; is /proc mounted?");
    if (!__builtin_cpu_supports("x86-64-v2"))
        return refuse(self, "this processor lacks SSE4.2 and POPCNT (x86-64-v2), which the numeric libraries need");
    if (!open_self("/proc/self/exe", &archive, &reason) && !open_self(self, &archive, &reason))
        return refuse(self, reason.text);
    for (size_t i = 0; i < sizeof MISLEADING / sizeof *MISLEADING; i++)
        unsetenv(MISLEADING[i]);
    setenv("HEARTH_BUNDLE", self, 1);

    int places_count = list_places(places);
    for (int i = 0; i < places_count; i++) {
        bool unpacked = false, hopeless = false;
        if (prepare(&places[i], &archive, program, &unpacked, &hopeless, &reasons[i])) {
            if (unpacked && i)
                fprintf(stderr, "hearth: %s %s; unpacked into %s instead\n", places[0].path, reasons[0].text,
                        places[i].path);
            /* Its own libraries before the machine's: a bare machine has no libz. */
            add_library_path(program);
            strcat(program, "/hearth");
            execv(program, words);
            fail(&reasons[i], "does not let programs run: %s", strerror(errno));
        }
        if (hopeless)
            return refuse(self, reasons[i].text);
    }
    fprintf(stderr, "hearth: there is no place to unpack the program; make room, or set HEARTH_HOME:\n");
    for (int i = 0; i < places_count; i++)
        fprintf(stderr, "  %s %s\n", places[i].path, reasons[i].text);
    return FAILED;
}

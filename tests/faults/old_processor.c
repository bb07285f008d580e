/* Preloaded into the program while it runs under qemu-user: what it starts of its own shall run there too. Without
 * this the kernel would start it on the real processor, whose instructions are the same kind. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORDS = 4 };

static int is_the_program(const char *path)
{
    size_t length = strlen(path), name = strlen("/hearth");
    return length > name && !strcmp(path + length - name, "/hearth");
}

int execve(const char *path, char *const words[], char *const environment[])
{
    int (*real)(const char *, char *const *, char *const *) = dlsym(RTLD_NEXT, "execve");
    int count = 0;
    while (words[count])
        count++;
    char **all = calloc((size_t)count + WORDS, sizeof *all);
    if (!is_the_program(path) || !all)
        return real(path, words, environment);
    all[0] = getenv("REHEARSED_QEMU"), all[1] = "-cpu", all[2] = getenv("REHEARSED_CPU"), all[3] = (char *)path;
    memcpy(all + WORDS, words + 1, (size_t)count * sizeof *all); /* with the terminating NULL */
    return real(all[0], all, environment);
}

int execv(const char *path, char *const words[])
{
    return execve(path, words, environ);
}

int execvp(const char *path, char *const words[])
{
    return execve(path, words, environ);
}

/* Counts what processes write below a folder, and at one event kills them or fails (LD_PRELOAD).

   An event is a call that changes files: open for writing, write, fsync, rename, unlink, mkdir,
   truncate. All processes of a run share one mapped file (HISTOJAX_SHIM names it), `struct control`
   below, which tests/reliability/shim.py writes and reads. Calls go to the kernel directly. What is
   written through a memory map is not seen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { OPEN, WRITE, FSYNC, RENAME, UNLINK, MKDIR, TRUNCATE };
enum action { COUNT, KILL_BEFORE, KILL_HALF, KILL_AFTER, FAIL };

#define EVENTS 16384

struct event {
  int32_t kind;
  char path[252];
};

struct control {
  int64_t count;  /* events so far */
  int64_t at;     /* the event that something happens at, from 1 on */
  int32_t action; /* what happens */
  int32_t group;  /* whether the whole process group is killed, or the process that writes alone */
  int32_t error;  /* the errno of FAIL, for events from `at` on */
  int32_t kinds;  /* bits of the kinds that FAIL */
  int64_t fired;  /* how often it happened */
  int64_t jump;   /* seconds by which the clock is wrong from event `jump_at` on */
  int64_t jump_at;
  int64_t offset; /* seconds by which it is wrong all the time */
  char folder[4096 - 64];
  struct event events[EVENTS];
};

static struct control *control;

/* Maps the control file that the environment names, in place of any before. */
void histojax_shim_start(void) {
  if (control) munmap(control, sizeof *control);
  control = NULL;
  const char *name = getenv("HISTOJAX_SHIM");
  if (!name || !*name) return;
  int file = syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CLOEXEC);
  if (file < 0) return;
  void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped != MAP_FAILED) control = mapped;
  syscall(SYS_close, file);
}

__attribute__((constructor)) static void begin(void) { histojax_shim_start(); }

static int is_below(const char *path) {
  size_t length = strlen(control->folder);
  return length && !strncmp(path, control->folder, length) &&
         (path[length] == '/' || !path[length]);
}

/* An absolute path of a name in a folder that is open; 0 where there is none. */
static int absolute(int folder, const char *name, char *path) {
  if (!name) return 0;
  if (*name == '/') return snprintf(path, PATH_MAX, "%s", name) > 0;
  char link[64], base[PATH_MAX];
  if (folder == AT_FDCWD)
    snprintf(link, sizeof link, "/proc/self/cwd");
  else
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
  if (length < 0) return 0;
  base[length] = 0;
  return snprintf(path, PATH_MAX, "%s/%s", base, name) > 0;
}

static void die(void) {
  control->fired++;
  syscall(SYS_kill, control->group ? 0 : (pid_t)syscall(SYS_getpid), SIGKILL);
  for (;;) sleep(1);
}

/* Counts an event. Returns its number, 0 where the path is elsewhere, or -1 with errno set. */
static int64_t enter(enum kind kind, const char *path) {
  int saved = errno;
  if (!control || !is_below(path)) {
    errno = saved;
    return 0;
  }
  int64_t number = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);
  if (number <= EVENTS) {
    struct event *event = &control->events[number - 1];
    event->kind = kind;
    const char *below = path + strlen(control->folder);
    snprintf(event->path, sizeof event->path, "%s", *below == '/' ? below + 1 : below);
  }
  if (control->action == KILL_BEFORE && number == control->at) die();
  if (control->action == FAIL && control->at && number >= control->at &&
      (control->kinds & 1 << kind) && !(kind == WRITE && number == control->at)) {
    control->fired++;
    errno = control->error;
    return -1;
  }
  errno = saved;
  return number;
}

/* How much is written of so many bytes: half of them at the event of KILL_HALF, and of FAIL. */
static size_t share(int64_t event, size_t bytes) {
  int half = event && event == control->at &&
             (control->action == KILL_HALF ||
              (control->action == FAIL && (control->kinds & 1 << WRITE)));
  return half ? (bytes + 1) / 2 : bytes;
}

static void leave(int64_t event) {
  if (event && event == control->at &&
      (control->action == KILL_AFTER || control->action == KILL_HALF))
    die();
}

static int64_t enter_at(enum kind kind, int folder, const char *name) {
  char path[PATH_MAX];
  return control && absolute(folder, name, path) ? enter(kind, path) : 0;
}

/* By the path of an open file; pipes and sockets have none that begins with a slash. */
static int64_t enter_open(enum kind kind, int file) {
  if (!control) return 0;
  int saved = errno;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
  errno = saved;
  if (length < 0) return 0;
  path[length] = 0;
  return enter(kind, path);
}

#define AROUND(event, call)      \
  do {                           \
    int64_t number = (event);    \
    if (number < 0) return -1;   \
    long result = (call);        \
    leave(number);               \
    return result;               \
  } while (0)

/* The clock of the wall, which may jump; what measures how long something takes does not. */

static time_t jumped(void) {
  if (!control) return 0;
  return control->offset + (control->count >= control->jump_at ? control->jump : 0);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  long result = syscall(SYS_clock_gettime, clock, now);
  if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += jumped();
  return result;
}
int gettimeofday(struct timeval *now, void *zone) {
  long result = syscall(SYS_gettimeofday, now, zone);
  if (!result) now->tv_sec += jumped();
  return result;
}
time_t time(time_t *now) {
  struct timespec current;
  clock_gettime(CLOCK_REALTIME, &current);
  if (now) *now = current.tv_sec;
  return current.tv_sec;
}

/* Files that are opened. */

static int open_any(int folder, const char *name, int flags, mode_t mode) {
  int writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
  AROUND(writes ? enter_at(OPEN, folder, name) : 0,
         syscall(SYS_openat, folder, name, flags, mode));
}

#define MODE                                         \
  mode_t mode = 0;                                   \
  if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) { \
    va_list rest;                                    \
    va_start(rest, flags);                           \
    mode = va_arg(rest, mode_t);                     \
    va_end(rest);                                    \
  }

int open(const char *name, int flags, ...) {
  MODE return open_any(AT_FDCWD, name, flags, mode);
}
int open64(const char *name, int flags, ...) {
  MODE return open_any(AT_FDCWD, name, flags, mode);
}
int openat(int folder, const char *name, int flags, ...) {
  MODE return open_any(folder, name, flags, mode);
}
int openat64(int folder, const char *name, int flags, ...) {
  MODE return open_any(folder, name, flags, mode);
}
int creat(const char *name, mode_t mode) {
  return open_any(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* Bytes. */

ssize_t write(int file, const void *bytes, size_t count) {
  AROUND(enter_open(WRITE, file), syscall(SYS_write, file, bytes, share(number, count)));
}
ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
  AROUND(enter_open(WRITE, file), syscall(SYS_pwrite64, file, bytes, share(number, count), offset));
}
ssize_t pwrite64(int file, const void *bytes, size_t count, off_t offset) {
  return pwrite(file, bytes, count, offset);
}
ssize_t writev(int file, const struct iovec *parts, int count) {
  AROUND(enter_open(WRITE, file), syscall(SYS_writev, file, parts, (int)share(number, count)));
}
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset) {
  AROUND(enter_open(WRITE, file),
         syscall(SYS_pwritev, file, parts, (int)share(number, count), offset, 0));
}
ssize_t sendfile(int file, int source, off_t *offset, size_t count) {
  AROUND(enter_open(WRITE, file), syscall(SYS_sendfile, file, source, offset, share(number, count)));
}
ssize_t sendfile64(int file, int source, off_t *offset, size_t count) {
  return sendfile(file, source, offset, count);
}
ssize_t copy_file_range(int source, off_t *from, int file, off_t *to, size_t count,
                        unsigned int flags) {
  AROUND(enter_open(WRITE, file),
         syscall(SYS_copy_file_range, source, from, file, to, share(number, count), flags));
}
int fsync(int file) { AROUND(enter_open(FSYNC, file), syscall(SYS_fsync, file)); }
int fdatasync(int file) { AROUND(enter_open(FSYNC, file), syscall(SYS_fdatasync, file)); }
int ftruncate(int file, off_t length) {
  AROUND(enter_open(TRUNCATE, file), syscall(SYS_ftruncate, file, length));
}
int ftruncate64(int file, off_t length) { return ftruncate(file, length); }
int truncate(const char *name, off_t length) {
  AROUND(enter_at(TRUNCATE, AT_FDCWD, name), syscall(SYS_truncate, name, length));
}
int truncate64(const char *name, off_t length) { return truncate(name, length); }

/* Names; a rename counts where it leads to. */

int renameat2(int from, const char *name, int to, const char *other, unsigned int flags) {
  AROUND(enter_at(RENAME, to, other), syscall(SYS_renameat2, from, name, to, other, flags));
}
int renameat(int from, const char *name, int to, const char *other) {
  return renameat2(from, name, to, other, 0);
}
int rename(const char *name, const char *other) {
  return renameat2(AT_FDCWD, name, AT_FDCWD, other, 0);
}
int linkat(int from, const char *name, int to, const char *other, int flags) {
  AROUND(enter_at(RENAME, to, other), syscall(SYS_linkat, from, name, to, other, flags));
}
int link(const char *name, const char *other) {
  return linkat(AT_FDCWD, name, AT_FDCWD, other, 0);
}
int symlinkat(const char *name, int to, const char *other) {
  AROUND(enter_at(RENAME, to, other), syscall(SYS_symlinkat, name, to, other));
}
int symlink(const char *name, const char *other) { return symlinkat(name, AT_FDCWD, other); }
int unlinkat(int folder, const char *name, int flags) {
  AROUND(enter_at(UNLINK, folder, name), syscall(SYS_unlinkat, folder, name, flags));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int mkdirat(int folder, const char *name, mode_t mode) {
  AROUND(enter_at(MKDIR, folder, name), syscall(SYS_mkdirat, folder, name, mode));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

/* Buffered files of the C library, which LightGBM writes bins with. What these write is not seen from
   outside, so whoever opens one to write gets one that writes by `write` above. */

static ssize_t cookie_write(void *cookie, const char *bytes, size_t count) {
  ssize_t written = write((int)(intptr_t)cookie, bytes, count);
  return written < 0 ? 0 : written;
}
static int cookie_seek(void *cookie, off64_t *offset, int whence) {
  off64_t place = lseek64((int)(intptr_t)cookie, *offset, whence);
  if (place < 0) return -1;
  *offset = place;
  return 0;
}
static int cookie_close(void *cookie) { return close((int)(intptr_t)cookie); }

static FILE *fopen_any(const char *symbol, const char *name, const char *mode) {
  char path[PATH_MAX];
  if (*mode != 'w' || !control || !absolute(AT_FDCWD, name, path) || !is_below(path)) {
    FILE *(*real)(const char *, const char *) = dlsym(RTLD_NEXT, symbol);
    return real(name, mode);
  }
  int file = open_any(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  cookie_io_functions_t functions = {NULL, cookie_write, cookie_seek, cookie_close};
  return file < 0 ? NULL : fopencookie((void *)(intptr_t)file, "w", functions);
}
FILE *fopen(const char *name, const char *mode) { return fopen_any("fopen", name, mode); }
FILE *fopen64(const char *name, const char *mode) { return fopen_any("fopen64", name, mode); }

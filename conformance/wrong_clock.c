/* A clock of the day that is wrong by WRONG_CLOCK_SECONDS, for one program: preloaded, it stands before that of the C
 * library. It asks the kernel by itself, and allocates nothing: allocators ask for the time before anything is there
 * that could answer. The monotonic clocks stay as they are. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long off_seconds(void)
{
	static const char name[] = "WRONG_CLOCK_SECONDS=";
	for (char **entry = environ; entry && *entry; entry++) {
		size_t at = 0;
		while (name[at] && (*entry)[at] == name[at])
			at++;
		if (!name[at])
			return strtol(*entry + at, NULL, 10);
	}
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	long outcome = syscall(SYS_clock_gettime, clock, now);
	if (outcome == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += off_seconds();
	return (int)outcome;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec precise;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &precise);
	now->tv_sec = precise.tv_sec;
	now->tv_usec = precise.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now)
{
	struct timespec precise;
	clock_gettime(CLOCK_REALTIME, &precise);
	if (now)
		*now = precise.tv_sec;
	return precise.tv_sec;
}

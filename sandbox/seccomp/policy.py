"""Which system calls a session may make, as data.

A rule set maps a system call's name to an outcome. An outcome is the 32-bit value that a seccomp
filter returns, or a `Test` that picks one by looking at one argument. A call without a rule is
answered ENOSYS, which is what a C library expects of a kernel that lacks it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

ALLOW = 0x7FFF0000


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def answer(error: int) -> int:
    """The outcome that skips the call: `error` is the errno, 0 pretends success."""
    return 0x00050000 | error


EPERM = answer(errno.EPERM)
ENOSYS = answer(errno.ENOSYS)
NO_FAMILY = answer(errno.EAFNOSUPPORT)
NO_TYPE = answer(errno.ESOCKTNOSUPPORT)
NO_PROTOCOL = answer(errno.EPROTONOSUPPORT)
PRETEND = answer(0)


@dataclass(frozen=True)
class Test:
    """Compares the low 32 bits of argument `index` (0 to 5), masked, with listed values.

    The kernel reads every argument tested here as an int or narrower, so what a program puts in the
    upper half of the register must not matter.
    """

    index: int
    mask: int
    cases: tuple[tuple[tuple[int, ...], Outcome], ...]
    otherwise: Outcome


Outcome = int | Test

EVERY_BIT = 0xFFFFFFFF

CLONE_NEWTIME = 0x00000080
NEW_NAMESPACE = (
    0x00020000  # CLONE_NEWNS
    | 0x02000000  # CLONE_NEWCGROUP
    | 0x04000000  # CLONE_NEWUTS
    | 0x08000000  # CLONE_NEWIPC
    | 0x10000000  # CLONE_NEWUSER
    | 0x20000000  # CLONE_NEWPID
    | 0x40000000  # CLONE_NEWNET
)

# clone(2) carries the exit signal in its low byte, where unshare(2) has CLONE_NEWTIME.
CLONE = Test(0, NEW_NAMESPACE, (((0,), ALLOW),), EPERM)
UNSHARE = Test(0, NEW_NAMESPACE | CLONE_NEWTIME, (((0,), ALLOW),), EPERM)

# PER_LINUX, PER_LINUX32, either with UNAME26, ADDR_NO_RANDOMIZE (cleared by set-id programs), and the query.
PERSONALITY = Test(0, EVERY_BIT, (((0x0, 0x8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF), ALLOW),), EPERM)

TIOCSTI = 0x5412
TIOCLINUX = 0x541C
TIOCSETD = 0x5423
KDSKBENT = 0x4B47
KDSKBSENT = 0x4B49
IOCTL = Test(1, EVERY_BIT, (((TIOCSTI, TIOCLINUX, TIOCSETD, KDSKBENT, KDSKBSENT), EPERM),), ALLOW)

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
# NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_KOBJECT_UEVENT
NETLINK = Test(2, EVERY_BIT, (((0, 4, 15), ALLOW),), NO_PROTOCOL)
# DCCP, L2TP, SCTP, UDP-Lite, SMC: the kernel would load a module for whoever asks.
INTERNET = Test(2, EVERY_BIT, (((33, 115, 132, 136, 256), NO_PROTOCOL),), ALLOW)
# The upper bits of the type are flags. The kernel turns AF_INET with SOCK_PACKET into AF_PACKET, and with
# protocol 0 SOCK_SEQPACKET means SCTP and SOCK_DCCP means DCCP.
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_PACKET = 1, 2, 3, 10
INTERNET_TYPE = Test(
    1, 0xF, (((SOCK_STREAM, SOCK_DGRAM, SOCK_RAW), INTERNET), ((SOCK_PACKET,), NO_FAMILY)), NO_TYPE
)
SOCKET = Test(
    0,
    EVERY_BIT,
    (((AF_UNIX,), ALLOW), ((AF_INET, AF_INET6), INTERNET_TYPE), ((AF_NETLINK,), NETLINK)),
    NO_FAMILY,
)

# Process 1 has the session's user, and must not be slowed down or starved by it. It is 1 whoever asks: no session has a
# process-id namespace of its own.
PROCESS_1 = Test(0, EVERY_BIT, (((1,), EPERM),), ALLOW)
# PRIO_PROCESS; PRIO_PGRP and PRIO_USER, which may reach it under another number. So have IOPRIO_WHO_….
PRIORITY = Test(0, EVERY_BIT, (((0,), Test(1, EVERY_BIT, (((1,), EPERM),), ALLOW)), ((1, 2), EPERM)), ALLOW)
IO_PRIORITY = Test(
    0, EVERY_BIT, (((1,), Test(1, EVERY_BIT, (((1,), EPERM),), ALLOW)), ((2, 3), EPERM)), ALLOW
)

S_IFMT, S_IFCHR, S_IFBLK = 0xF000, 0x2000, 0x6000
SET_ID = 0o6000  # S_ISUID | S_ISGID
O_CREAT, TMPFILE = 0x40, 0x400000  # TMPFILE is __O_TMPFILE, without the O_DIRECTORY that O_TMPFILE adds


def _device_pretended(index: int, otherwise: Outcome) -> Test:
    return Test(index, S_IFMT, (((S_IFCHR, S_IFBLK), PRETEND),), otherwise)


def _without_set_id(index: int) -> Test:
    return Test(index, SET_ID, (((0,), ALLOW),), EPERM)


def _made_without_set_id(flags: int, mode: int) -> Test:
    # open(2): the mode argument is ignored, and may be anything, when no file is to be made.
    return Test(flags, O_CREAT | TMPFILE, (((0,), ALLOW),), _without_set_id(mode))


# The argument that holds a node's mode.
NODE_MODE = {"mknod": 1, "mknodat": 2}

TESTED: dict[str, Outcome] = {
    "clone": CLONE,
    "unshare": UNSHARE,
    "personality": PERSONALITY,
    "ioctl": IOCTL,
    "socket": SOCKET,
    "socketpair": SOCKET,
    "setpriority": PRIORITY,
    "ioprio_set": IO_PRIORITY,
    **dict.fromkeys(
        ("prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"), PROCESS_1
    ),
}

PRETENDED = _names(
    """
    chown fchown lchown fchownat chown32 fchown32 lchown32
    setuid setgid setreuid setregid setgroups setresuid setresgid setfsuid setfsgid
    setuid32 setgid32 setreuid32 setregid32 setgroups32 setresuid32 setresgid32 setfsuid32 setfsgid32
    capset
    """
)

EMULATED: dict[str, Outcome] = {
    **dict.fromkeys(sorted(PRETENDED), PRETEND),
    **{name: _device_pretended(index, ALLOW) for name, index in NODE_MODE.items()},
}

# mkdir(2) is not here: the kernel drops the bits from its mode.
SET_ID_REFUSED: dict[str, Outcome] = {
    "chmod": _without_set_id(1),
    "fchmod": _without_set_id(1),
    "fchmodat": _without_set_id(2),
    "fchmodat2": _without_set_id(2),
    "creat": _without_set_id(1),
    "open": _made_without_set_id(1, 2),
    "openat": _made_without_set_id(2, 3),
    # Its mode lies in memory; libraries fall back to openat.
    "openat2": ENOSYS,
    **{name: _without_set_id(index) for name, index in NODE_MODE.items()},
}

EMULATED_AND_SET_ID_REFUSED: dict[str, Outcome] = {
    name: _device_pretended(index, _without_set_id(index)) for name, index in NODE_MODE.items()
}

REFUSED = _names(
    """
    add_key keyctl request_key
    bpf perf_event_open userfaultfd lookup_dcookie kcmp
    kexec_load kexec_file_load reboot
    init_module finit_module delete_module create_module get_kernel_syms query_module
    mount umount umount2 pivot_root fsopen fsconfig fsmount fspick move_mount
    open_tree open_tree_attr mount_setattr
    setns sethostname setdomainname
    open_by_handle_at fanotify_init fanotify_mark
    quotactl quotactl_fd acct swapon swapoff
    settimeofday clock_settime clock_settime64 stime
    syslog vhangup iopl ioperm modify_ldt vm86 vm86old
    move_pages migrate_pages
    nfsservctl uselib ustat sysfs _sysctl bdflush
    lsm_set_self_attr
    pciconfig_iobase pciconfig_read pciconfig_write
    """
)

ALLOWED = _names(
    """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek
    open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64 flock
    stat fstat lstat stat64 fstat64 lstat64 newfstatat fstatat64 statx access faccessat faccessat2
    statfs fstatfs statfs64 fstatfs64
    rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat readlink readlinkat
    mkdir mkdirat rmdir mknod mknodat getdents getdents64 readdir getcwd chdir fchdir chroot umask
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat chown32 fchown32 lchown32
    truncate ftruncate truncate64 ftruncate64 fallocate fsync fdatasync sync syncfs
    sync_file_range sync_file_range2 arm_sync_file_range readahead cachestat
    fadvise64 fadvise64_64 arm_fadvise64_64
    sendfile sendfile64 splice tee vmsplice copy_file_range
    utime utimes futimesat utimensat utimensat_time64
    setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    removexattr lremovexattr fremovexattr setxattrat getxattrat listxattrat removexattrat
    file_getattr file_setattr name_to_handle_at
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
    pipe pipe2 eventfd eventfd2 signalfd signalfd4
    timerfd_create timerfd_settime timerfd_gettime timerfd_settime64 timerfd_gettime64
    select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64
    epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64
    memfd_create memfd_secret

    bind connect listen accept accept4 getsockname getpeername shutdown getsockopt setsockopt
    send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64

    ipc semget semop semctl semtimedop semtimedop_time64 msgget msgsnd msgrcv msgctl
    shmget shmat shmdt shmctl
    mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    mq_timedsend_time64 mq_timedreceive_time64

    brk mmap mmap2 munmap mremap mprotect msync madvise process_madvise mincore mseal
    mlock mlock2 munlock mlockall munlockall remap_file_pages
    pkey_mprotect pkey_alloc pkey_free map_shadow_stack
    mbind set_mempolicy get_mempolicy set_mempolicy_home_node membarrier

    fork vfork execve execveat exit exit_group wait4 waitid waitpid
    getpid getppid gettid getpgid setpgid getpgrp getsid setsid
    kill tkill tgkill pidfd_open pidfd_send_signal pidfd_getfd process_mrelease
    ptrace process_vm_readv process_vm_writev
    prctl arch_prctl set_thread_area get_thread_area set_tid_address
    set_robust_list get_robust_list rseq
    futex futex_time64 futex_waitv futex_wake futex_wait futex_requeue
    seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
    lsm_get_self_attr lsm_list_modules

    getuid geteuid getgid getegid getresuid getresgid getgroups
    getuid32 geteuid32 getgid32 getegid32 getresuid32 getresgid32 getgroups32
    setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid
    setuid32 setgid32 setreuid32 setregid32 setresuid32 setresgid32 setgroups32 setfsuid32 setfsgid32
    capget capset

    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigtimedwait_time64
    rt_sigqueueinfo rt_tgsigqueueinfo rt_sigsuspend sigaltstack
    sigaction sigprocmask sigreturn sigpending sigsuspend signal pause alarm restart_syscall

    time gettimeofday times nanosleep getitimer setitimer adjtimex clock_adjtime clock_adjtime64
    clock_gettime clock_getres clock_nanosleep clock_gettime64 clock_getres_time64 clock_nanosleep_time64
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete
    timer_settime64 timer_gettime64

    sched_yield sched_getparam sched_getscheduler
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64
    sched_getaffinity sched_getattr getpriority nice ioprio_get
    getrlimit ugetrlimit setrlimit getrusage sysinfo uname getcpu getrandom

    breakpoint cacheflush set_tls get_tls
    """
)

# Since 424 a new call has one number on every architecture; these are younger than libseccomp 2.5.
NUMBERED = {
    "memfd_secret": 447,
    "process_mrelease": 448,
    "futex_waitv": 449,
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}

# A tracer cancels a call by setting its number to -1, and the filter sees that number.
CANCELLED = 0xFFFFFFFF


def rules(emulate_root: bool, refuse_set_id: bool = False) -> dict[str, Outcome]:
    """The rule set by system call name.

    With `emulate_root`, for a session that maps a single id, calls that change owners, ids and
    capabilities succeed without doing anything, and so does making a device node. With `refuse_set_id`,
    for a session whose files may be root's on the host, no file can be given the set-user-id or the
    set-group-id bit.
    """
    table: dict[str, Outcome] = dict.fromkeys(sorted(ALLOWED), ALLOW)
    table.update(dict.fromkeys(sorted(REFUSED), EPERM))
    table.update(TESTED)
    if emulate_root:
        table.update(EMULATED)
    if refuse_set_id:
        table.update(SET_ID_REFUSED)
    if emulate_root and refuse_set_id:
        table.update(EMULATED_AND_SET_ID_REFUSED)
    return table


def numbered(emulate_root: bool, known: dict[str, int], refuse_set_id: bool = False) -> dict[int, Outcome]:
    """The rule set by number, for one architecture whose calls are `known` by name and number."""
    table: dict[int, Outcome] = {CANCELLED: ALLOW}
    for name, outcome in rules(emulate_root, refuse_set_id).items():
        number = known.get(name, NUMBERED.get(name))
        if number is not None:
            table[number] = outcome
    return table

"""The kernel under its own names: thin and complete wrappers that raise plain OSError with the subject as filename.

    files and mounts    files, small_files, fds, mount, inotify, kmsg; flags: of all of them
    processes           process, namespaces, prctl, credentials, procconn; pause: the smallest one
    what is allowed     seccomp, seccomp_profile, seccomp_json; apparmor; bpf: devices
    network             nftables, tcp
    without Python      program: system calls as data; machine: runs them, machine_fork in a child,
                        machine_thread in a thread; syscalls: their numbers
    the C library       libc, heap

No policy here; ctypes lives in this package and nowhere else. After a fork nothing in it imports anything.
"""

//! Which system calls a program may not make. Everything else is allowed: what files, processes and networks it
//! reaches is held by namespaces and Landlock; this closes what goes past them.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

use super::Isolation;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refused with EPERM at every level: ways around or out, and state that outlives the program.
const REFUSED: &[i64] = &[
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_ioprio_set,
    // views of the file system, and past them
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    // namespaces
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // what outlives a process, or is shared between users' processes
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semctl,
    libc::SYS_semtimedop,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_flock, // needs no right to write, so that it reaches system files that other programs lock
    // memory that no limit counts
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_mlockall,
    // wide doors into the kernel
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_setup,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    // the machine
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_personality,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_kexec_file_load, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[libc::SYS_kexec_file_load];

/// Refused where there is no process and network namespace: sessions and groups of its own would hide a process from
/// the signal that ends its group, and Landlock knows nothing of sockets other than TCP.
const REFUSED_WITHOUT_NAMESPACES: &[i64] = &[
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_socket,
    libc::SYS_setpriority,
    libc::SYS_sched_setaffinity,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
];

/// Without effect where the file system is the machine's own. Landlock does not hold changes of mode and time back, and
/// this filter cannot see whose file it is; programs that copy a file must not fail for it.
const WITHOUT_EFFECT_WITHOUT_NAMESPACES: &[i64] = &[
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
];

/// Every flag of clone(2) that makes a namespace.
const NEW_NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWCGROUP,
    0x80, // CLONE_NEWTIME
];

/// Filters to be installed one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters {
    /// Those that whoever forks programs can live with. Each costs a compilation in the kernel, so that an interpreter that
    /// waits takes them once, for all its forks.
    pub(super) early: Vec<BpfProgram>,
    /// What a program's process needs itself, until it has become one.
    pub(super) late: Vec<BpfProgram>,
}

/// The calls that make a program's own world.
const REFUSED_LATE: [i64; 5] =
    [libc::SYS_setns, libc::SYS_unshare, libc::SYS_mount, libc::SYS_move_mount, libc::SYS_setsid];

/// The filters of a level.
pub(super) fn filters(level: Isolation) -> Result<Filters, String> {
    let build = || -> Result<Filters, seccompiler::BackendError> {
        let mut refused: Rules = REFUSED.iter().chain(REFUSED_HERE).map(|call| (*call, Vec::new())).collect();
        let when = |argument, operator, value: u64| {
            SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
        };
        let flags = NEW_NAMESPACES.iter().map(|flag| *flag as u32 as u64);
        let clones = flags.map(|flag| when(0, SeccompCmpOp::MaskedEq(flag), flag)).collect::<Result<_, _>>()?;
        refused.insert(libc::SYS_clone, clones);
        // Limits and priorities of other processes.
        refused.insert(libc::SYS_prlimit64, vec![when(0, SeccompCmpOp::Ne, 0)?]);
        // Terminals: TIOCSTI puts words into the mouth of whoever types there.
        refused.insert(libc::SYS_ioctl, vec![when(1, SeccompCmpOp::Eq, 0x5412)?]);
        if level == Isolation::Landlock {
            refused.extend(REFUSED_WITHOUT_NAMESPACES.iter().map(|call| (*call, Vec::new())));
        } else {
            // No vsock, netlink, packet and other families: Unix and the empty network's.
            let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
            let other = |family: &libc::c_int| {
                SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *family as u64)
            };
            let others = SeccompRule::new(families.iter().map(other).collect::<Result<_, _>>()?)?;
            refused.insert(libc::SYS_socket, vec![others]);
        }
        // glibc falls back to clone, whose flags can be seen.
        let absent: Rules = [(libc::SYS_clone3, Vec::new())].into();
        let late = REFUSED_LATE.iter().filter_map(|call| refused.remove_entry(call)).collect();
        let mut early = vec![program(refused, libc::EPERM)?, program(absent, libc::ENOSYS)?];
        if level == Isolation::Landlock {
            let calls = WITHOUT_EFFECT_WITHOUT_NAMESPACES.iter().map(|call| (*call, Vec::new())).collect();
            early.push(program(calls, 0)?);
        }
        Ok(Filters { early, late: vec![program(late, libc::EPERM)?] })
    };
    build().map_err(|error| format!("failed to build the seccomp filter: {error}"))
}

fn program(rules: Rules, errno: libc::c_int) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(without_x32(program))
}

/// On x86-64 the same kernel serves the x32 calls, under the same architecture and with this bit in the number:
/// seccompiler compares numbers and would let them all pass.
fn without_x32(program: BpfProgram) -> BpfProgram {
    const X32: u32 = 0x4000_0000;
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const NUMBER: u32 = 0; // offsetof(struct seccomp_data, nr)
    if cfg!(not(target_arch = "x86_64")) {
        return program;
    }
    let kill = u32::from(SeccompAction::KillProcess);
    let mut guarded = vec![
        sock_filter { code: LOAD, jt: 0, jf: 0, k: NUMBER },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: X32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: kill },
    ];
    guarded.extend(program);
    guarded
}

/// A filter as the kernel takes it: 8 bytes an instruction.
pub(super) fn bytes(program: &BpfProgram) -> Vec<u8> {
    let instruction = |each: &sock_filter| {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&each.code.to_ne_bytes());
        bytes[2] = each.jt;
        bytes[3] = each.jf;
        bytes[4..].copy_from_slice(&each.k.to_ne_bytes());
        bytes
    };
    program.iter().flat_map(instruction).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_what_the_kernel_takes() {
        for level in [Isolation::Landlock, Isolation::Namespaces] {
            let Filters { early, late } = filters(level).unwrap();
            for program in early.iter().chain(&late) {
                assert!(program.len() < 4096, "BPF_MAXINSNS");
                assert_eq!(bytes(program).len(), program.len() * 8);
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn x32_is_looked_for_first() {
        let Filters { early, late } = filters(Isolation::Namespaces).unwrap();
        for program in early.iter().chain(&late) {
            assert_eq!((program[0].k, program[1].k), (0, 0x4000_0000));
            assert_eq!(bytes(program)[..4], [0x20, 0, 0, 0]);
        }
    }
}

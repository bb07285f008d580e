"""The systemd unit of an installed Hearth: what it may do, which is to serve, and nothing else.

The service has a user of its own that exists only while it runs (`DynamicUser`), its data in /var/lib/hearth,
and sees of the machine only what a model server needs. `systemd-analyze security` rates it; a test holds the
rating. Source of the directives: systemd.exec(5), systemd.resource-control(5).
"""

from __future__ import annotations

from pathlib import PurePosixPath

NAME = "hearth.service"
STATE = PurePosixPath("/var/lib/hearth")

# W^X is possible because neither llama.cpp nor onnxruntime compiles at run time.
_UNIT = """\
# Written by `hearth install --systemd`, which writes it anew; put changes into {name}.d/*.conf.
[Unit]
Description=Hearth, a language-model service
Documentation=man:systemd.unit(5)
After=network.target

[Service]
Type=exec
ExecStart={executable} serve
Restart=on-failure
RestartSec=2
TimeoutStopSec=60
KillMode=mixed
Environment=HEARTH_HOME={state} HEARTH_PULL=never
LimitNOFILE=65536

DynamicUser=yes
User=hearth
StateDirectory=hearth
StateDirectoryMode=0700
UMask=0077
WorkingDirectory={state}

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
SecureBits=noroot-locked
RestrictSUIDSGID=yes
RemoveIPC=yes
PrivateUsers=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes

ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=all

RestrictAddressFamilies={families}
{addresses}RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources @obsolete
SystemCallFilter=sched_setaffinity mbind setrlimit prlimit64 setpriority seccomp
SystemCallErrorNumber=EPERM
KeyringMode=private

[Install]
WantedBy=multi-user.target
"""

_LOOPBACK_ONLY = "IPAddressDeny=any\nIPAddressAllow=localhost\n"


def unit(executable: PurePosixPath, *, is_loopback_only: bool = True) -> str:
    """The unit's text. `is_loopback_only`: the kernel refuses every packet from and to other machines."""
    return _UNIT.format(
        name=NAME,
        executable=executable,
        state=STATE,
        protect_home="yes",
        families="AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        addresses=_LOOPBACK_ONLY if is_loopback_only else "",
    )

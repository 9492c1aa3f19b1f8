"""nginx as a relay that picks its target by the name in the TLS greeting (ngx_stream_ssl_preread_module)."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmark.processes import output
from benchmark.rounds import Failed

NAME = "nginx, TLS by name"
_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
_CONFIGURATION = """\
load_module {module};
daemon off;
master_process off;
worker_processes 1;
pid {place}/pid;
error_log {place}/error.log crit;
events {{ worker_connections 8192; }}
stream {{
    map $ssl_preread_server_name $target {{ {targets} }}
    server {{
        listen 127.0.0.1:{port};
        ssl_preread on;
        tcp_nodelay on;
        proxy_half_close on;
        proxy_buffer_size 256k;
        proxy_pass $target;
    }}
}}
"""


@contextmanager
def relay(targets: Mapping[str, int], environment: Mapping[str, str]) -> Iterator[int | str]:
    """One process that relays to the port of each name, all on loopback. Its own port, or why there is none."""
    program = shutil.which("nginx", path=f"{environment.get('PATH', '')}:/usr/sbin")
    if program is None or not Path(_MODULE).exists():
        yield "not installed (Debian: nginx-light and libnginx-mod-stream)"
        return
    with tempfile.TemporaryDirectory(prefix="sandboxsh-bench-") as place:
        configuration, port = Path(place, "nginx.conf"), _free_port()
        names = " ".join(f"{name} 127.0.0.1:{there};" for name, there in targets.items())
        configuration.write_text(
            _CONFIGURATION.format(module=_MODULE, place=place, targets=names, port=port), encoding="ascii"
        )
        command = [program, "-p", place, "-c", str(configuration), "-e", f"{place}/error.log"]
        try:
            output([*command, "-t", "-q"], environment)
        except Failed as failure:
            yield str(failure)
            return
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                _wait(process, port)
                yield port
            finally:
                process.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    wanted = f":{port:04X} "
    while process.poll() is None:
        listening = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
        if any(wanted in line and " 0A " in line for line in listening):
            return
        time.sleep(0.01)
    raise Failed(f"nginx ended with code {process.returncode}")

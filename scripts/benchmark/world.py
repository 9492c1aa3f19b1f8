"""A machine with a world beside it: two network namespaces and a link. Run as root of new user and network namespaces.

Prints the port of a server in the world (see endpoint.py, whose path is the argument), at ADDRESS, and stays until
standard input ends. Sessions that are unrestricted reach neither loopback nor the machine itself, but this.
"""

import runpy
import subprocess
import sys

ADDRESS, OWN = (
    "198.51.100.2",
    "198.51.100.1",
)  # of a prefix for documentation (RFC 5737), as if they were public


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def main(endpoint: str) -> None:
    ip("link set lo up")
    ip("link add outer type veth peer name inner")
    command = ["unshare", "--net", sys.executable, "-I", "-S", __file__, "world", endpoint]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as world:
        assert world.stdin and world.stdout
        world.stdout.readline()
        ip(f"link set inner netns {world.pid}")
        ip(f"address add {OWN}/24 dev outer")
        ip("link set outer up")
        world.stdin.write("linked\n")
        world.stdin.flush()
        sys.stdout.write(world.stdout.readline())
        sys.stdout.flush()
        sys.stdin.read()
        world.stdin.close()


def serve(endpoint: str) -> None:
    sys.stdout.write("here\n")
    sys.stdout.flush()
    sys.stdin.readline()
    ip("link set lo up")
    ip(f"address add {ADDRESS}/24 dev inner")
    ip("link set inner up")
    runpy.run_path(endpoint)["serve"](ADDRESS)


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1] == "world" else main(sys.argv[1])

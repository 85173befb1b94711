#!/usr/bin/env python3
"""An agent for sandlock-runtime: it says which programs containers execute, and has connections to some ports refused.

    docs/examples/agent.py /run/agent.sock 25 465 587
"""
import json
import socketserver
import sys


class Conversation(socketserver.StreamRequestHandler):
    """The conversation with one container's monitor, until the container has ended."""

    def handle(self):
        self.say(type="hello", version=1, categories=["network"], syscalls=["execve"])
        container = None
        for line in self.rfile:
            message = json.loads(line)  # what raises here ends the conversation: the container's calls are denied from then on
            if message["type"] == "hello":
                container = message["container"]
            elif message["type"] == "event" and message["held"]:
                self.say(type="verdict", id=message["id"], **self.judge(container, message))

    def judge(self, container, event):
        """Returns the verdict about a call that waits for one."""
        if event["syscall"] in ("execve", "execveat"):
            print(f"{container}: process {event['guest_pid']} executes {event.get('argv', [])}", flush=True)
        elif event["syscall"] != "bind" and event.get("port") in self.server.refused:
            print(f"{container}: refused {event['addr']}:{event['port']}", flush=True)
            return {"verdict": "deny", "errno": "ECONNREFUSED"}
        return {"verdict": "allow"}

    def say(self, **message):
        self.wfile.write(json.dumps(message).encode() + b"\n")


class Agent(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: agent.py SOCKET [PORT...]")
    with Agent(sys.argv[1], Conversation) as agent:
        agent.refused = {int(port) for port in sys.argv[2:]}
        print("listening", flush=True)
        agent.serve_forever()

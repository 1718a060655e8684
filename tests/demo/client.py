"""A daemon on a temporary data directory, asked by curl as a user would: each call can be shown and pasted."""

import json
import shlex
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request

PHASES = {None: "waits", "validate": "reads images", "distil": "asks teachers", "train": "trains", "prune": "prunes",
          "evaluate": "measures", "publish": "publishes"}


class Failure(Exception):
    """Says in one line what went wrong."""


class Daemon:
    """The process; `url` once it listens. Use with `with`."""

    def __init__(self, binary, data_dir, port, more=()):
        self.command = [binary, "--data-dir", str(data_dir), "--port", str(port), *more]
        self.data_dir = data_dir
        self.log_path = data_dir.with_suffix(".log")
        self.process = None
        self.url = None

    def __enter__(self):
        with open(self.log_path, "wb") as log:
            # A process group of its own, so that Ctrl-C reaches it through us, in order.
            self.process = subprocess.Popen([*self.command, "--config", "/dev/null"], stderr=log,
                                            start_new_session=True)
        port_file = self.data_dir / "port"
        end = time.monotonic() + 10
        while not port_file.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                self.__exit__()
                raise Failure("The daemon did not start:\n" + self.log_tail())
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{port_file.read_text().strip()}"
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log_tail(self):
        return "".join(self.log_path.read_text(errors="replace").splitlines(True)[-15:])


class Client:
    """`show` prints a command before it runs."""

    def __init__(self, daemon, show):
        self.daemon = daemon
        self.show = show

    def get(self, path):
        with urllib.request.urlopen(f"{self.daemon.url}/api/v1/{path}", timeout=30) as reply:
            return json.load(reply)

    def list(self, what):
        """All pages of a list."""
        items, token = [], None
        while True:
            page = self.get(what + (f"?page_token={token}" if token else ""))
            items += page[what]
            token = page["next_page_token"]
            if not token:
                return items

    def health(self):
        with urllib.request.urlopen(f"{self.daemon.url}/healthz", timeout=30) as reply:
            return json.load(reply)

    def put(self, path, body, query):
        """Sends bytes, or what a pipe or file gives as it comes."""
        path += "?" + urllib.parse.urlencode(query) if query else ""
        return self.curl("-T", "-", path, body=body)

    def curl(self, *arguments, body=None):
        """Runs curl with the API's address for URL in the last argument, `body` on its standard input; the reply's object."""
        stdin = {"input": body} if isinstance(body, bytes) else {"stdin": body}
        *options, path = arguments
        command = ["curl", "-sS", *map(str, options), f"{self.daemon.url}/api/v1/{path}"]
        if self.show:
            print("  $ " + shlex.join(command))
        done = subprocess.run(command, capture_output=True, timeout=3600, **stdin, check=False)
        if done.returncode != 0:
            raise Failure(f"curl: {done.stderr.decode(errors='replace').strip()}")
        reply = json.loads(done.stdout)
        if "code" in reply and "detail" in reply:
            raise Failure(f"{reply['code']}: {reply['detail']}")
        return reply

    def learn(self, batch, options, title):
        """Posts a job and shows its progress to the end; the job."""
        return self.wait(self.post_job(batch, options), title)

    def post_job(self, batch, options):
        return self.curl("--json", json.dumps({"batches": [batch], "options": options}), "jobs")

    def wait(self, job, title, more=None):
        """Shows a job's progress to its end; the job. `more` gives further text for its progress."""
        bar = Bar(title, more)
        while job["state"] in ("queued", "running", "cancelling"):
            bar.update(job)
            time.sleep(0.2)
            if self.daemon.process.poll() is not None:
                raise Failure("The daemon ended:\n" + self.daemon.log_tail())
            job = self.get(f"jobs/{job['id']}")
        bar.update(job)
        bar.close()
        if job["state"] != "succeeded":
            error = job["error"] or {"code": job["state"], "detail": "The job was cancelled."}
            raise Failure(f"Job {job['id']} failed, {error['code']}: {error['detail']}")
        return job


class Bar:
    """A progress bar on a terminal, else a line each quarter."""

    WIDTH = 28

    def __init__(self, title, more=None):
        self.title = title
        self.more = more
        self.live = sys.stdout.isatty()
        self.next_share = 0.25

    def update(self, job):
        share = job["progress"]
        if not self.live and share < self.next_share:
            return
        self.next_share = share - share % 0.25 + 0.25
        full = round(share * self.WIDTH)
        text = f"  {self.title} [{'#' * full}{'-' * (self.WIDTH - full)}] {100 * share:3.0f} %  "
        if job["state"] == "succeeded":
            text += "done"
        else:
            text += PHASES[job["phase"]]
        if job["images_per_second"]:
            text += f", {job['images_per_second']:,.0f} images/s"
        if job["eta_seconds"] is not None and job["state"] == "running":
            text += f", {job['eta_seconds']:.0f} s left"
        if self.more:
            text += self.more(share)
        print(f"\r\x1b[K{text}" if self.live else text, end="" if self.live else "\n", flush=True)

    def close(self):
        if self.live:
            print()

"""What `make soak` runs: the mix of several seeds through one deployed service."""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from .accounting import account
from .chain import DeadlineError, carry
from .deployment import DeploymentError, deployed, render
from .messages import FAULTS, FIFO_FAULTS, mix

DEADLINE_PER_MESSAGE = 0.2  # seconds; an eighth was measured, on two busy cores


def main() -> int:
    """Print a table per seed; return 1 if a message is not accounted for."""
    options = read_options()
    if shutil.which("terraform") is None:
        print(
            "Terraform is missing: https://developer.hashicorp.com/terraform/install",
            file=sys.stderr,
        )
        return 1
    fifo = options.fifo == "yes"
    answers = {"idempotency": options.idempotency}
    if fifo:
        answers["sns_topic_name"] = "events.fifo"
    faults = FIFO_FAULTS if fifo else FAULTS
    good_news = "Every message is accounted for." + " Every group kept its order." * fifo
    others = [number for number in range(10**6) if number not in options.seeds]
    seeds = [*options.seeds, random.SystemRandom().choice(others)]
    print(f"Seeds {', '.join(map(str, seeds))}; the last one was taken at random.")
    good = True
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        work = Path(temporary)
        try:
            service = render(work, **answers)
            with deployed(service, say, fifo=fifo, batch_size=options.batch_size) as chain:
                for seed in seeds:
                    print(f"\nSeed {seed}: {options.messages:,} messages", flush=True)
                    folder = work / f"seed-{seed}"
                    folder.mkdir()
                    messages = mix(seed, options.messages, faults, options.groups if fifo else 0)
                    deadline = 120 + options.messages * DEADLINE_PER_MESSAGE
                    traffic = carry(chain, messages, folder, deadline=deadline, say=say)
                    once = options.idempotency == "yes"
                    result = account(messages, traffic, chain.max_receive_count, once=once)
                    batches = ", ".join(f"{n} {what}" for what, n in traffic.batches.most_common())
                    print(f"\n{result.table()}\n")
                    print(f"{traffic.seconds:.0f} s. Batches: {batches}.")
                    print(result.problems() or good_news, flush=True)
                    good = good and not result.findings
        except (DeploymentError, DeadlineError) as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            return 130
    return 0 if good else 1


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="soak")
    parser.add_argument("--messages", type=int, default=10_000, help="per seed")
    parser.add_argument("--idempotency", choices=("no", "yes"), default="no", help="the answer")
    parser.add_argument("--fifo", choices=("no", "yes"), default="no", help="messages in groups")
    parser.add_argument("--groups", type=int, default=200, help="of FIFO messages")
    parser.add_argument("--batch-size", type=int, help="1 to 10 for FIFO")
    parser.add_argument("seeds", type=int, nargs="*", help="one more is taken at random")
    return parser.parse_args()


def say(text: str) -> None:
    """Show progress."""
    print(f"  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

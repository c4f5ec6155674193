"""The entry point of `genwright` and of `python -m flows`: signals are caught before anything that takes time is imported."""

from components.runtime.interruption import WATCH


def main() -> None:
    WATCH.arm()
    from flows.cli.app import main as run

    run()


if __name__ == "__main__":
    main()

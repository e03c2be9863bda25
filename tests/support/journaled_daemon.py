"""A program for tests: the daemon as `edge-agent run` starts it, with a journal socket that the test listens at."""

import argparse
from pathlib import Path

from edge_agent import app
from edge_agent.configuration import load_configuration
from edge_agent.journal_sentences import SENTENCES
from operations.journal import configure_logging

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", required=True)
    parser.add_argument("--configuration", type=Path, required=True)
    parser.add_argument("command", choices=["run"])
    options = parser.parse_args()
    configure_logging("edge-agent", style="journal", sentences=SENTENCES, journal_path=options.journal)
    app.run(load_configuration(options.configuration))

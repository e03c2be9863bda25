"""`python -m edge_agent`: the `edge-agent` command where it is not installed as one."""

from edge_agent.commands import main

if __name__ == "__main__":
    main(prog_name="edge-agent")

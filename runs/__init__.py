"""The run directory, read and shown. Nothing here imports the graph; what draws it is handed in.

records         the rows of the run's tables, typed
checked         what is no record, checked: run.json, config.json, metrics, named values
run_files       the files of a directory that may be damaged, read-only or a stranger's
trust           what a directory names beyond data, and what the viewer allows of it
store           the tables of loop.db, and `LoopStore`, which writes them
run_view        `RunView` reads the whole directory
steps           the one count of environment steps
events          what a run says while it runs
progress        events on a terminal
timeline        a run as a list of moments
interventions   what each intervention tried
visits          the nodes of the graph with their visits and model calls
charts          thumbnails of branches
graph_picture   the graph as SVG and PNG
report          `report.html`
approvals       answers to promotions that wait for a human
replays         replays of recorded calls, kept and shown
library         the signals that did well, as a table and as a file for other runs
page/           `cosignal view`

    trainer ─► trainer.db ──┐
                            ├─► RunView ─► records ─► status, report, pages, studies
    loop ─► LoopStore ─► loop.db
      └───► events ─► terminal, log, whoever follows the run
"""

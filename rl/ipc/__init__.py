"""The interface between the processes: typed messages over ZeroMQ.

messages  requests, replies, branch jobs and wake-ups
client    the loop's side: one method a request
server    the trainer's side: its sockets, between updates
launcher  starting the trainer, finding it again, ending it

loop: TrainerClient ── Request ──> trainer: TrainerServer.poll ──> RequestHandler.handle
      TrainerClient <── Reply ──── TrainerServer
      wakeups       <── Wakeup ─── TrainerServer.publish
"""

"""Records of the graph at work: every visit of a node, and OpenTelemetry spans where they are wanted.

``visits``            a callback handler that writes visits to the table `visits` and emits them as events
``otel``              whether spans are wanted, whether they can be made, and where they go; imports no OpenTelemetry
``spans``             spans of a run: run → visit of a node → model call or tool; needs the extra `otel`
``span_attributes``   the attributes of each kind of span, as OpenInference names them; needs the extra `otel`

Data flow::

    LangGraph's callbacks ─┬─► VisitRecorder ─► loop.db, NodeEntered and NodeLeft
                           └─► SpanRecorder ──┐
    rows of the ledger (agents/llm) ──────────┴─► Spans ─► OTLP exporter ─► a collector
"""

"""The server of one system: HTTP in, ONNX Runtime behind it, nothing of the train side.

`app` composes the routes, `live` holds the model that answers and swaps it, `server` runs the process, `load`
drives it to measure it, `batch` predicts files, `command` is what the command line calls.
"""

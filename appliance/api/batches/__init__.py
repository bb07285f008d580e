"""/v1/batches: many requests in a file, answered one by one behind everybody else.

records     a batch as it is kept and shown, and its lines
runner      the one task that runs batches, before and after a restart
endpoints   the handlers, and the paths as `routes` lists them
"""

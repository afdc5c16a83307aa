"""Tables of a fleet made of one host's, and engines that read them."""

import datetime, json, multiprocessing, os, sys, time

TABLES = ("verdicts", "attempts", "connections")
# The hour that the first of them begins.
BEGIN = datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)


def hour_of(number):
    return BEGIN + datetime.timedelta(hours=number)


def write(job):
    """Writes a share of the hosts: host and times are rewritten, and the run, which is a host's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    real, out, first, hosts, hours, step = job
    for name in TABLES:
        files = [
            os.path.join(folder, file)
            for folder, _, files in os.walk(os.path.join(real, name))
            for file in files
        ]
        # Without what the folders' names say.
        table = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
        times = [one.name for one in table.schema if pa.types.is_timestamp(one.type)]
        seen = [v for one in times for v in table[one].to_pylist() if v is not None]
        start = min(seen).replace(minute=0, second=0, microsecond=0)
        for number in range(hours):
            shift = pa.scalar(hour_of(number) - start, pa.duration("us"))
            moved = table
            for one in times:
                at = moved.schema.get_field_index(one)
                column = pa.compute.add(moved[one], shift).cast(table.schema.field(one).type)
                moved = moved.set_column(at, one, column)
            at = moved.schema.get_field_index("run")
            hour = hour_of(number).strftime("%Y-%m-%d_%H")
            for host in range(first, hosts, step):
                run = pa.repeat(f"{host:032x}", moved.num_rows)
                folder = f"{out}/{name}/host=web{host:04}/hour={hour}"
                os.makedirs(folder)
                own = moved.set_column(at, "run", run)
                pq.write_table(own, f"{folder}/run.parquet", compression="zstd")


def multiply(real, out, hosts, hours):
    import pyarrow.compute

    jobs = os.cpu_count()
    shares = [(real, out, first, int(hosts), int(hours), jobs) for first in range(jobs)]
    with multiprocessing.Pool(jobs) as pool:
        pool.map(write, shares, 1)
    return []


def plain(value):
    """Engines name one number in several ways."""
    try:
        return round(float(value), 6)
    except (TypeError, ValueError):
        return str(value)


def ask(engine, query):
    if engine == "duckdb":
        import duckdb

        duckdb.sql("SET enable_progress_bar = false")
        begin = time.monotonic()
        rows = duckdb.sql(query)
        rows = rows.fetchall() if rows else []
    elif engine == "chdb":
        import chdb

        begin = time.monotonic()
        lines = str(chdb.query(query, "JSONCompactEachRow")).splitlines()
        rows = [json.loads(line) for line in lines if line]
    else:
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.master("local[*]").config("spark.ui.enabled", "false")
        builder = builder.config("spark.driver.memory", "4g")
        session = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        begin = time.monotonic()
        rows = [list(row) for row in session.sql(query).collect()]
    seconds = time.monotonic() - begin
    return {"rows": [[plain(one) for one in row] for row in rows], "seconds": seconds}


if __name__ == "__main__":
    print()
    print(json.dumps({"multiply": multiply, "ask": ask}[sys.argv[1]](*sys.argv[2:])))

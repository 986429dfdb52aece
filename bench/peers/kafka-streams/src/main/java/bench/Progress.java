package bench;

import java.io.IOException;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** Counts the events that were processed, in a file that the benchmark reads: the number twice, big-endian. */
final class Progress {

  private final MappedByteBuffer counts;
  private long processed;

  Progress(Path file) throws IOException {
    try (FileChannel channel =
        FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      counts = channel.map(FileChannel.MapMode.READ_WRITE, 0, 2 * Long.BYTES);
    }
    write();
  }

  synchronized void add() {
    processed++;
    write();
  }

  private void write() {
    counts.putLong(0, processed);
    counts.putLong(Long.BYTES, processed);
  }
}

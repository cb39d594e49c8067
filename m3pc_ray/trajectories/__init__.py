"""What experience is: episodes in memory and on disk, returns-to-go, statistics, segments, and every reader."""
